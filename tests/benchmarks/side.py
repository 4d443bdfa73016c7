"""One process of the benchmark: load, look, answer, and say in JSON what was when.

Started by full_size.py. Only the standard library is imported before the clock is
asked for the first time; moments are seconds since the process was started.
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

now = time.monotonic  # on Linux one clock for all processes


class Answer(NamedTuple):
    """One call: when picture and prompt were arrays, and when each token came."""

    ready: float
    tokens: list[float]
    ids: list[list[int]]  # of each step, all rows


class Ours:
    """numpy_paligemma, as its README uses it."""

    def __init__(self, folder: str, dtype: str) -> None:
        from numpy_paligemma import load_hf_model

        self.imported = now()
        self.model, self.processor = load_hf_model(folder, dtype=dtype)

    def ask(self, pictures: list[str], prompt: str, tokens: int) -> Answer:
        """Answer greedily, to the last token."""
        inputs = self.processor([prompt] * len(pictures), pictures)
        answer = Answer(now(), [], [])
        for ids in self.model.stream(
            **inputs, max_new_tokens=tokens, do_sample=False, eos_token_id=-1
        ):
            answer.tokens.append(now())
            answer.ids.append(ids.tolist())
        return answer

    def work(self, pictures: list[str], prompt: str) -> list[tuple[int, int]]:
        """Count each step's FLOP and bytes, the first one the whole prefill."""
        from numpy_paligemma.traces.work import WorkCounter

        count, steps = WorkCounter(self.model), [(0, 0)]

        def tap(name, x):
            flops, read = count(name, x)
            steps[-1] = (steps[-1][0] + flops, steps[-1][1] + read)
            if name == "logits":
                steps.append((0, 0))
            return x

        inputs = self.processor([prompt] * len(pictures), pictures)
        options = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": -1}
        self.model.generate(**inputs, **options, tap=tap)
        return steps[:2]


class Theirs:
    """transformers, as its documentation uses it, its processor included."""

    def __init__(self, folder: str, dtype: str) -> None:
        import torch
        from PIL import Image
        from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

        self.imported = now()
        self.torch, self.open = torch, Image.open
        load = PaliGemmaForConditionalGeneration.from_pretrained
        self.model = load(folder, dtype=getattr(torch, dtype)).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    def ask(self, pictures: list[str], prompt: str, tokens: int) -> Answer:
        """Answer greedily, to the last token."""
        inputs = self._inputs(pictures, prompt)
        clock = _Clock(now(), [], [])
        with self.torch.inference_mode():
            self.model.generate(
                **inputs,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                use_cache=True,
                streamer=clock,
            )
        # the prompt comes first
        return Answer(clock.ready, clock.tokens[1:], clock.ids[1:])

    def _inputs(self, pictures, prompt):
        inputs = self.processor(
            text=[f"<image>{prompt}"] * len(pictures),
            images=[self.open(path).convert("RGB") for path in pictures],
            return_tensors="pt",
        ).to(self.model.dtype)
        inputs.pop("labels", None)  # for training
        # the random checkpoint has the miniature's tokenizer, with another <image>
        places = inputs["input_ids"] == self.processor.image_token_id
        inputs["input_ids"][places] = self.model.config.image_token_id
        return inputs


class _Clock(Answer):
    """What transformers calls a streamer: it is handed the ids of every step."""

    def put(self, ids) -> None:
        self.tokens.append(now())
        self.ids.append(ids.flatten().tolist())

    def end(self) -> None:
        pass


def peak_memory() -> int:
    """Read the most bytes that the process held, pages of mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(s.split()[1]) for s in lines if s.startswith("VmHWM"))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["ours", "transformers"])
    for name in ("dtype", "folder", "prompt"):
        parser.add_argument(name)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--started", type=float, required=True)
    parser.add_argument("--calls", type=int, nargs="+", required=True, help="tokens")
    parser.add_argument("--work", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Do what the command line says, and print one line."""
    a = arguments()
    side = (Ours if a.side == "ours" else Theirs)(a.folder, a.dtype)
    loaded, peak_of_load = now(), peak_memory()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    answers = [side.ask(a.pictures, a.prompt, tokens) for tokens in a.calls]
    record = {
        "imported": side.imported - a.started,
        "loaded": loaded - a.started,
        "ready": [answer.ready - a.started for answer in answers],
        "tokens": [[t - a.started for t in answer.tokens] for answer in answers],
        "ids": answers[-1].ids,
        "peak_of_load": peak_of_load,
        "peak_after": peak_memory(),
    }
    if a.work:
        record["work"] = side.work(a.pictures, a.prompt)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
