"""A LoRA adapter held against the base that it is put on, before a byte is read."""

from collections.abc import Iterator, Mapping

from numpy_paligemma.checkpoints.faults import told
from numpy_paligemma.checkpoints.lora.adapter import FILE, Adapter, Update
from numpy_paligemma.checkpoints.lora.targets import forgotten
from numpy_paligemma.checkpoints.names import EMBEDDING, HEAD
from numpy_paligemma.checkpoints.tensor import Tensor, Tensors


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
        "named as targets and without factors": forgotten(adapter, base),
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
