"""Drawing token sequences: classifier-free guidance, temperature, top-k, top-p (App. D)."""

import torch
from torch import Tensor

from artune.config.run import Sampling
from artune.errors import ArtuneError
from artune.models.policies.policy import Policy, check_policy, parallel
from artune.runtime.distributed import Share
from artune.runtime.progress import say
from artune.sampling.cached_decoding import (
    KeptDecoder,
    TokenDecoder,
    bytes_of_image,
    cut,
    images_at_once,
)
from artune.sampling.decoders import records

PLAIN = Sampling(cfg=1.0)  # no guidance, the whole codebook


def filter_logits(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits of the distribution that tokens are drawn from; excluded tokens get minus infinity.

    The order is that of the official samplers: temperature, then top-k, then top-p among the tokens that top-k keeps.

    Args:
        logits: [..., V].
        temperature: above 0.
        top_k: number of tokens kept, plus any that tie with the last of them; 0 keeps all.
        top_p: in (0, 1]; the most likely tokens are kept, up to and including the one whose cumulative probability
            exceeds this value.

    Returns:
        [..., V], float32.

    Raises:
        ArtuneError: a value outside its range.
    """
    check_sampling(temperature, top_k, top_p)
    logits = logits.float() / max(temperature, 1e-5)
    if 0 < top_k < logits.shape[-1]:
        smallest_kept = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    if top_p < 1.0:
        ordered, order = logits.sort(descending=True)
        cumulative = ordered.softmax(-1).cumsum(-1)
        drop = torch.zeros_like(logits, dtype=torch.bool)
        drop[..., 1:] = cumulative[..., :-1] > top_p  # compares the mass before a token: the crossing one stays
        logits = logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)
    return logits


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Raise an ArtuneError that names the key whose value is out of range."""
    if not temperature > 0:
        raise ArtuneError(f"sampling.temperature: {temperature} must be above 0")
    if top_k < 0:
        raise ArtuneError(f"sampling.top_k: {top_k} must be 0 (off) or more")
    if not 0 < top_p <= 1:
        raise ArtuneError(f"sampling.top_p: {top_p} must be in (0, 1]")


def guide(conditional: Tensor, unconditional: Tensor, cfg: float) -> Tensor:
    """Classifier-free guidance: u + s (c - u)."""
    return unconditional + (conditional - unconditional) * cfg


def draw_token(logits: Tensor, generator: torch.Generator | None = None, share: Share | None = None) -> Tensor:
    """One token per row [B] from softmax(logits), logits [B, V] with minus infinity allowed; no host synchronisation.

    A race of exponential clocks: arg max p / E, E ~ Exp(1), is token i with probability p_i. With a ``share`` the
    clocks of the whole batch are drawn, so that several processes draw the same tokens as one process.
    """
    clocks = torch.empty_like(logits) if share is None else logits.new_empty(share.total, logits.shape[-1])
    if clocks.device.type == "cpu":  # takes a quarter of exponential_'s time; 24 bits, with half a step in place of 0
        clocks.uniform_(generator=generator).neg_().log1p_().neg_().clamp_(min=2**-25)
    else:  # an exact 0 would give 0 / 0 for an excluded token
        clocks.exponential_(generator=generator).clamp_(min=torch.finfo(logits.dtype).tiny)
    clocks = clocks if share is None else clocks[share.rows]
    return logits.softmax(-1).div_(clocks).argmax(-1)


class Sampler:
    """Draws token sequences from a policy, with a static key/value cache that is kept from call to call.

    Args:
        policy: the model; every call uses its present weights.
        sampling: ``cfg`` (guidance scale; 1 is off), ``cfg_interval`` (-1: always; k: on the first token and on the
            decoding steps 0 to k after it), ``temperature``, ``top_k``, ``top_p``, ``rows`` (images drawn at once) and
            ``weights_dtype`` (the arithmetic); see :class:`artune.config.run.Sampling`.
        images: size of the batch that is drawn most often; None for that of each call. On a GPU, where a decoder and
            its recorded steps serve one number of rows, a batch of any other size is drawn in parts of this batch's
            rows, the last part filled up: that costs at most one part's steps, new recordings cost several times as
            much, and a second decoder would need memory that the update takes.

    Raises:
        ArtuneError: a sampling value out of range, guidance for a policy without a null class, or a module that lacks
            something of :class:`~artune.models.policies.policy.Policy`.
    """

    def __init__(self, policy: Policy, sampling: Sampling, images: int | None = None):
        check_policy(policy)
        check_sampling(sampling.temperature, sampling.top_k, sampling.top_p)
        self.policy, self.sampling, self.guided = policy, sampling, guidance(policy, sampling.cfg)
        dtype = None if sampling.weights_dtype == "own" else getattr(torch, sampling.weights_dtype)
        self.images = images
        self._decoder = KeptDecoder(policy, dtype)
        # Images drawn at once, by batch size and device. Decided once: at the next call the kept cache itself takes the
        # memory, and a different number would record every graph again.
        self._planned: dict[tuple[int, torch.device], int] = {}

    @torch.no_grad()
    def __call__(
        self,
        class_ids: Tensor,
        generator: torch.Generator | None = None,
        *,
        share: Share | None = None,
        greedy: bool = False,
    ) -> Tensor:
        """Sample the tokens of one image for each class id.

        Args:
            class_ids: [B], int64, on the policy's device.
            generator: on the device of ``class_ids``; the draws depend only on it and on B. The cut into parts may
                change tokens through rounding.
            share: rows of these class ids in a larger batch, on whose size the draws then depend instead of on B.
            greedy: take the most likely token instead of drawing.

        Returns:
            Tokens [B, T], int64, raster order.

        Raises:
            ArtuneError: class ids that the policy does not have.
        """
        policy, batch, device = self.policy, len(class_ids), class_ids.device
        if class_ids.numel() and not 0 <= int(class_ids.min()) <= int(class_ids.max()) < policy.classes:
            raise ArtuneError(f"class ids must be 0 to {policy.classes - 1}, the classes of this policy")
        share = Share(0, batch, batch) if share is None else share
        generator = _default(device) if generator is None else generator
        began = generator.get_state()
        tokens = class_ids.new_empty(batch, policy.tokens)
        for part, filled in self._parts(batch, device):
            generator.set_state(began)  # each part takes its rows of the same draws
            ids = fill_up(class_ids[part], filled)
            inputs = torch.cat((ids, torch.full_like(ids, policy.null_class))) if self.guided else ids
            rows = Share(share.start + part.start, share.start + part.stop, share.total)
            draws = None if greedy else (generator, rows)
            _draw_tokens(self._decoder(inputs), inputs, self.sampling, self.guided, draws, tokens[part])
        return tokens

    def _parts(self, images: int, device: torch.device) -> list[tuple[slice, int]]:
        """The parts of a batch of ``images``, and the number of images to which each is filled up."""
        if not records(device):
            return [(part, part.stop - part.start) for part in cut(images, self._at_once(images, device))]
        usual = self.images or images
        each = max((part.stop - part.start for part in cut(usual, self._at_once(usual, device))), default=1)
        return [(slice(at, min(at + each, images)), each) for at in range(0, images, each)]

    def _at_once(self, images: int, device: torch.device) -> int:
        """Images per part of the batch; a batch in several parts is announced when it is planned."""
        key = (images, device)
        if key not in self._planned:
            each = bytes_of_image(self.policy, 2 if self.guided else 1, self._decoder.dtype)
            self._planned[key] = self.sampling.rows or images_at_once(images, each, device)
            if (count := -(-images // self._planned[key])) > 1:
                all_together = images * each / 2**30
                say(f"sampling: {images} images in {count} parts, {all_together:.1f} GB of keys and values in all")
        return self._planned[key]

    def forget(self) -> None:
        """Free the memory kept for the next call."""
        self._decoder.forget()


def generate(
    policy: Policy,
    class_ids: Tensor,
    sampling: Sampling = PLAIN,
    generator: torch.Generator | None = None,
    *,
    share: Share | None = None,
    greedy: bool = False,
) -> Tensor:
    """Sample once from a policy; see :class:`Sampler`, which is faster for several calls.

    Token t is drawn from ``softmax(filter(u + cfg (c - u)) / temperature)`` with c and u the conditional and the
    unconditional logits given the tokens before it, of which ``filter`` keeps the top-k and then the top-p (App. D).

    Args:
        policy: the model.
        class_ids: [B], int64, on the policy's device, each from 0 to ``policy.classes - 1``.
        sampling: guidance scale, temperature, top-k, top-p; the default draws from the conditional distribution itself.
        generator: on the device of ``class_ids``; None takes torch's global one.
        share: rows of these class ids in a larger batch, see :class:`Sampler`.
        greedy: take the most likely token instead of drawing.

    Returns:
        Tokens [B, T], int64, raster order, each from 0 to V - 1.

    Raises:
        ArtuneError: as :class:`Sampler`, or class ids that the policy does not have.

    >>> policy = artune.LlamaGen(dim=16, layers=1, heads=1, codebook_size=8, classes=4, tokens=9)
    >>> sampling = artune.Sampling(cfg=1.5, top_k=6)
    >>> tokens = artune.generate(policy, torch.tensor([0, 3]), sampling, torch.Generator().manual_seed(0))
    >>> print(tokens.shape, int(tokens.max()) < 8)
    torch.Size([2, 9]) True
    """
    return Sampler(policy, sampling)(class_ids, generator, share=share, greedy=greedy)


def fill_up(rows: Tensor, number: int) -> Tensor:
    """The rows [B] and copies of the last one up to ``number``."""
    return rows if len(rows) == number else torch.cat((rows, rows[-1:].expand(number - len(rows))))


def _draw_tokens(
    decoder: TokenDecoder,
    inputs: Tensor,
    sampling: Sampling,
    guided: bool,
    draws: tuple[torch.Generator, Share] | None,
    tokens: Tensor,
) -> None:
    """Fill ``tokens`` [B, T]; the loop never waits for the device. ``inputs`` may hold more rows than these."""
    batch, filled = len(tokens), len(inputs) // 2 if guided else len(inputs)
    logits = decoder.start(inputs)
    for position in range(tokens.shape[1]):
        if position > 0:
            last = fill_up(tokens[:, position - 1], filled)
            logits = decoder.decode(torch.cat((last, last)) if guided else last)
        chosen = logits[:batch]
        if guided and (sampling.cfg_interval < 0 or position <= sampling.cfg_interval + 1):
            chosen = guide(chosen, logits[filled : filled + batch], sampling.cfg)
        chosen = filter_logits(chosen, sampling.temperature, sampling.top_k, sampling.top_p)
        tokens[:, position] = chosen.argmax(-1) if draws is None else draw_token(chosen, *draws)


def _default(device: torch.device) -> torch.Generator:
    """The global generator of a device."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    return torch.default_generator


def guided_logits(policy: Policy, tokens: Tensor, class_ids: Tensor, cfg: float, dropout: float = 0.0) -> Tensor:
    """Teacher-forced logits [B, T, V] under guidance, u + s (c - u); the conditional logits if ``cfg`` is 1.

    Raises:
        ArtuneError: guidance for a policy without a null class.
    """
    if not guidance(policy, cfg):
        return parallel(policy, tokens, class_ids, dropout)
    both = torch.cat((class_ids, torch.full_like(class_ids, policy.null_class)))
    conditional, unconditional = parallel(policy, tokens.repeat(2, 1), both, dropout).chunk(2)
    return guide(conditional, unconditional, cfg)


def guidance(policy: Policy, cfg: float) -> bool:
    """Whether guidance is on (scale above 1, as in the official sampler)."""
    if policy.null_class is None and cfg != 1.0:
        raise ArtuneError(f"sampling.cfg: {cfg} asks for guidance, but this policy has no null class; set it to 1.0")
    return cfg > 1.0
