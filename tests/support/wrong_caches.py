"""Caches with the mistakes that the check of a decoder must find."""

from artune.models.policies.cache import BucketedCache


class OpenMask(BucketedCache):
    """The mask is left open: a step attends to positions that are not filled yet."""

    def restart(self):
        super().restart()
        self.additive.zero_()


class RotationBehind(BucketedCache):
    """Queries and keys get the positional row of the position before theirs."""

    def begin(self, table):
        super().begin(table)
        return table.index_select(0, (self.position - 1).clamp(min=0))[0]


class KeysLost(BucketedCache):
    """The keys of one layer are not stored."""

    def attend(self, layer, query, key, value):
        return super().attend(layer, query, key * 0 if layer == 1 else key, value)


MISTAKES = {"mask left open": OpenMask, "rotation one behind": RotationBehind, "keys of a layer lost": KeysLost}
