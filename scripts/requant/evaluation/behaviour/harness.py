"""EvalScope asks MMLU and GPQA through our server: zero-shot, with its own prompts, and it grades the answers itself.

https://github.com/modelscope/evalscope, in an environment of its own (``envs/harness.lock``). It gets the rows as files
and writes, for every question, ``predictions/*.jsonl`` (the answer) and ``reviews/*.jsonl`` (what it makes of it), from
which a stopped run goes on. What it wrote is kept; here it becomes a results file like any other.
"""

import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from requant.documents.records import read_record
from requant.documents.results import Outcome, Results, write_results
from requant.evaluation.behaviour.endpoint import SECONDS, Settings
from requant.evaluation.behaviour.knowledge import Knowledge
from requant.ground.canonical import parse
from requant.ground.errors import FormatError, ToolError
from requant.ground.programs import WorkFolder, work_folder
from requant.ground.progress import progress
from requant.pipeline.suites import GPQA_DIAMOND, HARNESS, MMLU
from requant.toolchain.environments import environment_python
from requant.toolchain.serving import PARALLEL

# How the data set's own folder would look: configuration and split by EvalScope's names.
LAYOUT = {MMLU: ("all", "test"), GPQA_DIAMOND: ("default", "train")}
PROGRESS = re.compile(r"Evaluating\[\w+\]:.*?(\d+)/\d+ ")
CUT_OFF = ("max_tokens", "model_length")
RETRIES = 5
UNKNOWN_FORM = f"{HARNESS} wrote a result of unknown form: install what envs/harness.lock names"

Row = tuple[int, Mapping[str, Any]]
"""A question, and its place in the whole set."""


@dataclass(frozen=True)
class Harness:
    """EvalScope: the record of its environment, and the log that its words are appended to."""

    record: Path
    log: Path

    @property
    def name(self) -> str:
        """``EvalScope 1.14.1, zero-shot``: what asked and graded."""
        return f"{HARNESS} {read_record(self.record)['version']}, zero-shot"


def ask_knowledge(
    knowledge: Knowledge, rows: Sequence[Row], url: str, how: Settings, max_tokens: int | None, harness: Harness,
    out: Path,
) -> Results:  # fmt: skip
    """Ask ``rows`` of a set; ``out`` has the results, and EvalScope works in a folder of the same name beside it.

    Args:
        knowledge: the set.
        rows: the questions to ask.
        url: the server's, such as ``http://127.0.0.1:8080/v1``.
        how: model, thinking, temperature and seed.
        max_tokens: of an answer; None leaves it to the server.
        harness: EvalScope.
        out: the results file, for these rows, settings and this harness alone; a stopped run goes on.

    Raises:
        ToolError: when EvalScope fails, or wrote what it never writes.
    """
    with work_folder(out.with_suffix(""), keep=True) as work:
        _write_data(knowledge.name, [row for _, row in rows], work.path / "data")
        _drop_half_lines(work.path / "run")
        generation = _generation(how, max_tokens)
        command = [str(environment_python(harness.record)), *_arguments(knowledge.name, url, how, generation)]
        if (work.path / "run" / "predictions").exists():
            # By itself it goes on only with the same server, whose port is another one in every run. So it is told to
            # take the answers and to grade them again; that they belong to these questions and settings is our part.
            command += ["--use-cache", "run", "--rerun-review"]
        _run(work, command, len(rows), harness.log)
        request = {"model": how.model, **generation}
        lines = list(_lines(knowledge.name, rows, work.path / "run", request))
    return write_results({"suite": knowledge.sha256, "harness": harness.name, **asdict(how)}, lines, out)


def _generation(how: Settings, max_tokens: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"temperature": how.temperature, "seed": how.seed}
    if max_tokens is not None:
        found["max_tokens"] = max_tokens
    if how.thinking != "default":
        found["extra_body"] = {"chat_template_kwargs": {"enable_thinking": how.thinking == "on"}}
    return found


def _arguments(name: str, url: str, how: Settings, generation: Mapping[str, Any]) -> list[str]:
    trying = {"timeout": SECONDS, "retries": RETRIES, "retry_interval": 1}
    return [
        "-m", "evalscope.cli.cli", "eval", "--model", how.model, "--model-id", "model", "--api-url", url,
        "--api-key", "none", "--eval-type", "openai_api", "--datasets", name,
        "--dataset-args", json.dumps({name: {"local_path": "data", "few_shot_num": 0}}),
        "--eval-batch-size", str(PARALLEL), "--generation-config", json.dumps({**generation, **trying}),
        # Questions without an answer are counted here, and asked again in the next run.
        "--ignore-errors", "--work-dir", "run", "--no-timestamp",
    ]  # fmt: skip


def _run(work: WorkFolder, command: Sequence[str], total: int, log: Path) -> None:
    with progress(total, "questions", "item") as bar:

        def watch(line: str) -> bool:
            if shown := PROGRESS.search(line):
                bar.update(max(0, int(shown[1]) - bar.n))
            return shown is not None

        # Offline, nothing written outside of its folder, and compiled once: it would take longer to start than to ask.
        env = {"HF_HUB_OFFLINE": "1", "HF_HOME": "cache", "PYTHONDONTWRITEBYTECODE": ""}
        work.run(command, log.resolve(), watch=watch, env=env, explain=lambda _: f"{HARNESS} failed, see {log}")


def _write_data(name: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config, split = LAYOUT[name]
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {config}\n  data_files:\n  - split: {split}\n    path: rows.jsonl\n---\n"
    )
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _drop_half_lines(run: Path) -> None:
    """Cut off the half line that a killed run may have left, which EvalScope would stumble over."""
    for path in [*run.glob("predictions/*/*.jsonl"), *run.glob("reviews/*/*.jsonl")]:
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _lines(name: str, rows: Sequence[Row], run: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A line of results for each row. EvalScope counts the rows of each subject by themselves."""
    seen: dict[str, int] = defaultdict(int)
    answers = {kind: _written(run / kind / "model") for kind in ("predictions", "reviews")}
    for place, row in rows:
        subset = row.get("subject", "default")
        key = (f"{name}_{subset}", seen[subset])
        seen[subset] += 1
        line = {"id": f"{name}-{place}", "request": None, "response": None, "seconds": None}
        answer, review = (answers[kind].get(key) for kind in ("predictions", "reviews"))
        if answer is None or review is None:
            reason = f"{HARNESS} got no answer, see its log"
            yield {**line, "outcome": Outcome.ERROR, "passed": False, "part": None, "reason": reason}
        else:
            yield {**line, **_judged(row, answer, review, request)}


def _judged(
    row: Mapping[str, Any], answer: Mapping[str, Any], review: Mapping[str, Any], request: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        output, score = answer["model_output"], review["sample_score"]["score"]
        question, stopped = answer["messages"][0]["content"], output["choices"][0]["stop_reason"]
        if (row.get("question") or row.get("Question", "")).strip() not in question:
            raise ToolError(f"{HARNESS} kept answers to other questions: remove its folder, and run again")
        right, chosen, passed = review["target"][0], score["extracted_prediction"], score["value"]["accuracy"] == 1
        seconds = output["time"]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ToolError(UNKNOWN_FORM) from error
    outcome = Outcome.PASSED if passed else Outcome.FAILED
    reason = f"it chose {chosen or 'nothing'}, and {right} is right"
    if stopped in CUT_OFF:
        outcome, reason, passed = Outcome.TRUNCATED, "the answer was cut off at the token limit", False
    messages = [{"role": "user", "content": question}]
    return {
        "request": {**request, "messages": messages}, "response": output, "seconds": seconds,
        "outcome": outcome, "passed": passed, "part": "content" if chosen else None, "reason": reason,
    }  # fmt: skip


def _written(folder: Path) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Every line by file and index; of several the last counts."""
    try:
        return {
            (path.stem, line["index"]): line
            for path in sorted(folder.glob("*.jsonl"))
            for line in (parse(data, path.name) for data in path.read_bytes().splitlines())
        }
    except (FormatError, KeyError, TypeError) as error:
        raise ToolError(UNKNOWN_FORM) from error
