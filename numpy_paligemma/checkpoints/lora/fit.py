"""A LoRA adapter held against the base that it is put on, before a byte is read."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping

from numpy_paligemma.checkpoints.faults import told
from numpy_paligemma.checkpoints.lora.adapter import FILE, Adapter, Update
from numpy_paligemma.checkpoints.lora.config import FILE as CONFIG_FILE
from numpy_paligemma.checkpoints.lora.config import fits
from numpy_paligemma.checkpoints.names import EMBEDDING, HEAD, in_memory
from numpy_paligemma.checkpoints.tensor import Tensor, Tensors

log = logging.getLogger(__name__)
ALL_LINEAR = "all-linear"  # peft's word for every linear map but the head
LOOKED_UP = ("embed_tokens.weight", "position_embedding.weight")


def fit(adapter: Adapter, tensors: Tensors, *, tied: bool) -> tuple[Tensors, bool]:
    """Hold an adapter against the base, and put in the tensors that it has whole.

    An embedding that is the head too becomes two where either is changed: peft changes
    what is looked up and leaves the head alone, or the reverse.

    Returns
    -------
    the tensors by published name, and whether the head still is the embedding

    Raises
    ------
    ValueError
        If a tensor does not fit, or a target has none: all of it in one line.
    """
    base = {**tensors, HEAD: tensors[EMBEDDING]} if tied else tensors
    _require_fit(adapter, base)
    apart = {EMBEDDING, HEAD} & {*adapter.updates, *adapter.replaced}
    if not tied or not apart:
        return {**tensors, **adapter.bases, **adapter.replaced}, tied
    # what it was trained on lies beside it, under either name
    shared = next(iter(adapter.bases.values()), tensors[EMBEDDING])
    return {**tensors, EMBEDDING: shared, HEAD: shared, **adapter.replaced}, False


def _require_fit(adapter: Adapter, base: Mapping[str, Tensor]) -> None:
    """Refuse an adapter of another model, or half of one."""
    whole = {**adapter.bases, **adapter.replaced}
    names = {*adapter.updates, *adapter.biases, *whole}
    there = {name: base[name] for name in names if name in base}
    found = [
        (name, whole[name].shape, x.shape) for name, x in there.items() if name in whole
    ]
    for name, x in there.items():
        if name in adapter.biases:
            found.append((name, adapter.biases[name][0].shape, x.shape))
        if name in adapter.updates:
            found += _factor_shapes(name, adapter.updates[name], x.shape)
    faults = {
        "for nothing that the model has": sorted(names - base.keys()),
        "of another shape": [
            f"{name} expected {expected}, found {shape}"
            for name, shape, expected in found
            if shape != expected
        ],
        "scaled to a length, which is done for plain matrices alone": [
            name
            for name, update in adapter.updates.items()
            if update.magnitude and (update.looked_up or len(update.b.shape) != 2)
        ],
        "named as targets and without factors": _forgotten(adapter, base),
    }
    if any(faults.values()):
        msg = f"{adapter.folder / FILE}: the adapter does not fit the model: "
        raise ValueError(msg + told(faults))


def _factor_shapes(
    name: str, update: Update, shape: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Say of each factor what its shape is and has to be."""
    out, *rest = shape
    r, ones = update.rank, (1,) * (len(rest) - 1)
    a, b = (r, *rest), (out, r, *ones)
    if update.looked_up:
        a, b = (r, out), (*rest, r)
    yield f"{name}: A", update.a.shape, a
    yield f"{name}: B", update.b.shape, b
    if update.magnitude:
        yield f"{name}: magnitude", update.magnitude.shape, (out,)


def _forgotten(adapter: Adapter, base: Mapping[str, Tensor]) -> list[str]:
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
        msg = f"{adapter.folder / CONFIG_FILE}: target_modules: {expression!r} matches no module"
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
