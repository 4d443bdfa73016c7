"""Run a phase of training in one of several processes, so that it can be resumed."""

import math
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from .data import open_data
from .layers import Sizes
from .learner import Learner
from .optimiser import Optimiser
from .packing import Batch, Reader, visibility
from .schedule import Clock, Phase, rate_share
from .tokenizer import IMAGE_ID, PIECES, Vocabulary
from .truth import BINS
from .validation import validate
from .vqvae import VQVAE, load_vqvae

SAVE_EVERY, VALIDATE_EVERY = 60.0, 480.0  # seconds


def learn(
    process: int, processes: int, runs: Path, phase: Phase, start: str, seed: int
) -> None:
    """Run one phase in one of several processes; go on where it was cut off.

    Parameters
    ----------
    runs : Path
        Holds the data, the vocabulary, the mask VQ-VAE and the checkpoints.
    start : str
        The phase whose averaged weights are the first, or nothing.
    """
    torch.set_num_threads(1)
    if processes > 1:
        meeting = f"file://{runs.resolve()}/meeting-{phase.name}"
        dist.init_process_group("gloo", meeting, rank=process, world_size=processes)
    torch.manual_seed(seed)
    vae = load_vqvae(runs / "vae.pt")
    learner = Learner(Sizes(), vae.codebook)
    optimiser = Optimiser(learner)
    elapsed = restore(optimiser, runs, phase, start)
    vocabulary = Vocabulary(runs / "tokenizer.model")
    store = open_data(runs / "data")
    reader = Reader(store, vocabulary, seed, process, phase.mix)
    run(learner, optimiser, reader, phase, Clock(elapsed), runs, processes, vae)


def restore(optimiser: Optimiser, runs: Path, phase: Phase, start: str) -> float:
    """Load a checkpoint of this phase, or the average of the one before."""
    own = runs / f"{phase.name}.pt"
    if own.exists():
        state = torch.load(own)
        optimiser.load(state)
        return float(state["elapsed"])
    if start:
        average = torch.load(runs / f"{start}.pt")["average"]
        optimiser.values.copy_(average)
        optimiser.average.copy_(average)
    return 0.0


def given(folder: Path, runs: Path, name: str, seed: int) -> None:
    """Make a finished folder's weights a start; segment tokens and heads are new."""
    if (runs / f"{name}.pt").exists():
        return
    torch.manual_seed(seed)
    learner = Learner(Sizes(), load_vqvae(runs / "vae.pt").codebook)
    for head in (learner.heads, learner.pooled):  # shall not push the tower at once
        nn.init.zeros_(head.weight)
    optimiser = Optimiser(learner)
    state = load_file(folder / "model.safetensors")
    table = "language_model.model.embed_tokens.weight"
    segments = slice(PIECES + BINS, IMAGE_ID)
    state[table][segments] = learner.model.state_dict()[table][segments]
    learner.model.load_state_dict(state)  # converts to float32 in place
    torch.save({"average": optimiser.values}, runs / f"{name}.pt")


def run(
    learner: Learner,
    optimiser: Optimiser,
    reader: Reader,
    phase: Phase,
    clock: Clock,
    runs: Path,
    processes: int,
    vae: VQVAE,
) -> None:
    """Step until the time is up; save, validate and tell now and then."""
    leader = reader.process == 0
    step = torch.compile(loss, dynamic=False)
    saved = told = seconds = clock.seconds()
    value = math.nan
    while seconds < phase.seconds:
        batch = draw_batch(reader, phase, optimiser.steps, processes)
        value, seconds = advance(step(learner, batch, phase), optimiser, phase, clock)
        if leader and (seconds - told > VALIDATE_EVERY or optimiser.steps == 20):
            tell(learner, optimiser, reader, phase, runs, seconds, value, vae)
            told = seconds
        if leader and seconds - saved > SAVE_EVERY:
            save(optimiser, runs, phase, seconds)
            saved = seconds
    if leader:
        tell(learner, optimiser, reader, phase, runs, seconds, value, vae)
        save(optimiser, runs, phase, seconds)
        (runs / f"{phase.name}.done").touch()


def advance(
    value: Tensor, optimiser: Optimiser, phase: Phase, clock: Clock
) -> tuple[float, float]:
    """Step down a loss's gradient; return the loss and the first process's seconds."""
    value.backward()  # type: ignore[no-untyped-call]
    seconds = optimiser.share_gradients(clock.seconds())
    share = rate_share(phase, seconds, optimiser.steps)
    optimiser.step(phase.muon_rate * share, phase.adam_rate * share)
    return float(value.detach()), seconds


def draw_batch(reader: Reader, phase: Phase, number: int, processes: int) -> Batch:
    """Draw the pictures of one step, and the questions if there are any."""
    rows = reader.rows(number, phase.pictures // processes)
    batch = reader.pictures(rows)
    if phase.length:
        batch |= reader.texts(rows, number, phase.length, phase.each)
        exact = phase.each > 0
        batch["hidden"] = visibility(batch, picture_sees_prompt=exact)
    return batch


def loss(learner: Learner, batch: Batch, phase: Phase) -> Tensor:
    """Compute a batch's loss in bfloat16 where that is safe."""
    with torch.autocast("cpu", torch.bfloat16):
        features = learner.model.see(batch["picture"])
        total = phase.heads_weight * learner.vision_loss(features, batch)
        if phase.length:
            total = total + learner.answer_loss(features, batch)
    return total


def save(optimiser: Optimiser, runs: Path, phase: Phase, seconds: float) -> None:
    """Write the checkpoint so that an interruption cannot spoil it."""
    torch.save({"elapsed": seconds, **optimiser.state()}, runs / "saving.pt")
    (runs / "saving.pt").replace(runs / f"{phase.name}.pt")


def tell(
    learner: Learner,
    optimiser: Optimiser,
    reader: Reader,
    phase: Phase,
    runs: Path,
    seconds: float,
    value: float,
    vae: VQVAE,
) -> None:
    """Validate the averaged weights and write a line to the log."""
    values = optimiser.values.clone()
    optimiser.values.copy_(optimiser.average)
    store = open_data(runs / "validation")
    held_out = Reader(store, reader.vocabulary, 0, 0, phase.mix)
    figures = validate(learner, held_out, vae if phase.length else None)
    optimiser.values.copy_(values)
    measured = "  ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
    line = f"{phase.name} {seconds:5.0f} s  step {optimiser.steps:5d}"
    line = f"{line}  loss {value:.3f}  {measured}"
    print(line, flush=True)
    with (runs / "log.txt").open("a") as log:
        log.write(line + "\n")


def better(runs: Path, names: tuple[str, ...]) -> str:
    """Return the phase whose averaged weights answer held-out questions best."""
    vae = load_vqvae(runs / "vae.pt")
    learner = Learner(Sizes(), vae.codebook)
    optimiser = Optimiser(learner)
    vocabulary = Vocabulary(runs / "tokenizer.model")
    held_out = Reader(open_data(runs / "validation"), vocabulary, 0, 1)
    scores = {}
    for name in names:
        optimiser.values.copy_(torch.load(runs / f"{name}.pt")["average"])
        figures = validate(learner, held_out, vae, pictures=512)
        scores[name] = sum(figures.values()) / len(figures)
        print(name, *(f"{task} {figure:.4f} " for task, figure in figures.items()))
    return max(names, key=lambda name: scores[name])
