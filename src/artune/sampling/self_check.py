"""The check of recorded decoding: are its logits those of the plain path, up to rounding?"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from artune.models.policies.policy import Policy
from artune.runtime.progress import say
from artune.sampling.decoders import BucketedDecoder, PlainDecoder, TokenDecoder

CHECKED = 2  # tokens of the second bucket that are compared
SOME = 32  # rows of which the exact policy's logits are computed
# Largest accepted :attr:`Difference.spread`. In bfloat16 a right decoder of full size is at 0.02 to 0.07, the more the
# larger its weights are. Tokens cannot be compared: among 16,384 logits with 8 significant bits the largest value often
# occurs more than once.
LIMITS = {torch.float32: 0.01, torch.bfloat16: 0.25}
# Largest accepted :attr:`Difference.rounding`: a right decoder is as far from the exact logits as the plain path is.
# With random weights N(0, 0.02), and with two and three times these, LlamaGen-L is at 1.02 to 1.03, while a lost layer
# of keys, a rotation one position behind and an open mask are at 6 to 80; LlamaGen-XL and VQGAN are at 1.02 to 1.05,
# their mistakes at 3.6 and more. The spread alone would accept the first two mistakes of LlamaGen-L at the smallest of
# these weights (0.10 and 0.17).
ROUNDING = 2.0


class Difference(NamedTuple):
    """How far a decoder's logits are from the plain path's, in the worst of the compared steps; NaN if a logit is."""

    spread: float  # root mean square of the difference over the standard deviation of the plain path's logits
    largest: float  # largest difference over the plain path's largest absolute logit
    rounding: float = 1.0  # distance from the exact policy's logits, over that of the plain path


@torch.no_grad()
def difference(decoder: BucketedDecoder, class_ids: Tensor, exact: Policy | None = None) -> Difference:
    """Compare a decoder with the plain path along its greedy tokens, up to some of the second bucket.

    Args:
        decoder: the decoder.
        class_ids: [rows of the decoder].
        exact: the policy of which the decoder's is a rounded replica; None if it is none.
    """
    policy = decoder.policy
    steps = min(decoder.cache.bucket + CHECKED, policy.tokens)
    plain = PlainDecoder(policy, steps)  # a second cache of whole images may not fit
    whole = None if exact is None else PlainDecoder(exact, steps)
    some = slice(None, None, max(1, len(class_ids) // SOME))
    expected, found = plain.start(class_ids), decoder.start(class_ids)
    true = None if whole is None else whole.start(class_ids[some])
    figures = []
    for step in range(steps):
        apart = found - expected
        row = [_over(_rms(apart), expected.std()), _over(apart.abs().max(), expected.abs().max())]
        if true is not None:
            row.append(_over(_rms(found[some] - true), _rms(expected[some] - true)))
        figures.append(torch.stack(row))
        if step + 1 < steps:
            token = expected.argmax(-1)
            expected, found = plain.decode(token), decoder.decode(token)
            true = None if whole is None else whole.decode(token[some])
    return Difference(*torch.stack(figures).amax(0).tolist())


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def _over(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.clamp(min=torch.finfo(whole.dtype).tiny)


def accepted(decoder: BucketedDecoder, found: Difference) -> bool:
    """Whether a decoder with this difference is right, as far as the check can tell."""
    return found.spread <= limit(decoder) and found.rounding <= ROUNDING


def limit(decoder: BucketedDecoder) -> float:
    """Largest accepted :attr:`Difference.spread` in the decoder's arithmetic."""
    return LIMITS.get(decoder.cache.keys[0].dtype, LIMITS[torch.bfloat16])


def checked(decoder: BucketedDecoder, class_ids: Tensor, exact: Policy | None = None) -> TokenDecoder:
    """The decoder, with its difference printed; if it fails or its logits differ, the plain one, with a warning.

    Arguments are those of :func:`difference`.
    """
    try:
        found = difference(decoder, class_ids, exact)
        spread = f"{found.spread:.2g} of their spread (limit {limit(decoder)})"
        figure = f"its logits differ from those of the plain path by {spread}"
        if exact is not None:
            figure += f", with {found.rounding:.2g} times its rounding errors (limit {ROUNDING})"
        if accepted(decoder, found):
            say(f"recorded decoding of {len(class_ids)} rows: {figure}")
            return decoder
        reason = figure
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
    warnings.warn(f"decoding without a CUDA graph, as the recorded step cannot be used: {reason}", stacklevel=2)
    return PlainDecoder(decoder.policy)
