"""Which matrices of a base `target_modules` names, and an adapter has nothing for."""

import logging
import re
from collections.abc import Iterable, Mapping

from numpy_paligemma.checkpoints.lora.adapter import Adapter
from numpy_paligemma.checkpoints.lora.config import FILE, fits
from numpy_paligemma.checkpoints.names import HEAD, in_memory
from numpy_paligemma.checkpoints.tensor import Tensor

log = logging.getLogger(__name__)
ALL_LINEAR = "all-linear"  # peft's word for every linear map but the head
LOOKED_UP = ("embed_tokens.weight", "position_embedding.weight")


def forgotten(adapter: Adapter, base: Mapping[str, Tensor]) -> list[str]:
    """List the matrices that a target names and that have no factors.

    Source: peft, ``tuners/tuners_utils.py``.

    Raises
    ------
    ValueError
        If an expression matches no module.
    """
    config = adapter.config
    matrices = [name for name, tensor in base.items() if len(tensor.shape) > 1]
    there = {*adapter.updates, *adapter.replaced}
    if config.expression is None:
        if not config.targets:
            _warn(adapter, "it names nothing")
        named = [
            n for n in matrices if any(fits(x, _module(n)) for x in config.targets)
        ]
    elif config.expression.lower() == ALL_LINEAR:
        flat = [n for n in matrices if len(base[n].shape) == 2 and n != HEAD]
        named = [n for n in flat if not n.endswith(LOOKED_UP)]
    else:
        named = _matched(adapter, config.expression, matrices, there)
    return [n for n in named if n not in there] if config.everywhere else []


def _matched(
    adapter: Adapter, expression: str, matrices: Iterable[str], there: set[str]
) -> list[str]:
    """List what an expression matches: whole paths, as the adapter's own are spelled.

    Paths alone do not always tell which of the spellings that was. Then the one that
    asks for least counts, with a warning if another asks for more.
    """
    paths = {n: in_memory(_module(n)) for n in matrices}
    count = len(next(iter(paths.values())))
    named = [
        [n for n, spelled in paths.items() if re.fullmatch(expression, spelled[i])]
        for i in range(count)
    ]
    if not any(named):
        msg = (
            f"{adapter.folder / FILE}: target_modules: {expression!r} matches no module"
        )
        raise ValueError(
            msg + " of the model; take the config that the adapter came with"
        )
    own = adapter.modules.items()
    known = [
        named[i]
        for i in range(count)
        if all(n not in paths or paths[n][i] == module for n, module in own)
    ]
    lacking = [len({*names} - there) for names in known]
    if not known or (max(lacking) > 0 and min(lacking) == 0):
        _warn(adapter, "how its modules were called is not known")
        return []
    return known[lacking.index(min(lacking))]


def _warn(adapter: Adapter, why: str) -> None:
    """Say that half an adapter would not be noticed."""
    log.warning(
        "warning: %s: whether all that target_modules names is there could not be "
        "checked: %s",
        *(adapter.folder, why),
    )


def _module(name: str) -> str:
    """Name the module of a weight."""
    return name.removesuffix(".weight")
