"""A prefix cache as an engine's: whole blocks, each known by all that comes before it."""

from collections import OrderedDict


class PrefixCache:
    """The `blocks_max` blocks used last; one process's own, empty at its start."""

    def __init__(self, block_tokens: int, blocks_max: int) -> None:
        self._block_tokens = block_tokens
        self._blocks_max = blocks_max
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.queried_tokens = 0
        self.hit_tokens = 0

    def admit(self, owner: str, words: list[str]) -> int:
        """Take in a prompt of `owner` (a model or an adapter with a salt); how many were there."""
        size = self._block_tokens
        self.queried_tokens += len(words)
        found, hitting = 0, True
        key = hash(owner)
        for at in range(0, len(words) - size + 1, size):
            key = hash((key, *words[at : at + size]))
            # The last token is computed in any case: the first of the answer comes from it.
            hitting = hitting and key in self._blocks and at + size < len(words)
            found += hitting
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) > self._blocks_max:
            self._blocks.popitem(last=False)
        self.hit_tokens += found * size
        return found * size
