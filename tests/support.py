"""What several test files share: settings in a temporary folder, and tiny models and data made on the spot."""

import json
import os
import random
import re
import signal
import string
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

from helpers import settings as course
from helpers.durable.errors import LessonError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PAGE = ROOT / "notebooks" / "00_on_one_page.ipynb"  # the whole course on one page: no helpers, exercises or checks
LESSONS = [path for path in NOTEBOOKS if "01" <= path.name[:2] <= "06"]  # those with exercises
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD = ("lovely", "clever", "warm", "funny", "splendid"), ("dull", "stupid", "cold", "tedious", "awful")
TEXT = "the film plot actor music ending scene camera story is was seems remains rather quite very and with of a"
OTHER = sorted(set(re.findall(r"\w+", TEXT)))


def make_settings(home: Path, **values) -> course.Settings:
    """Return settings of the pocket edition below `home`, with these values, whatever the environment holds."""
    environ = {"LESSON_HOME": str(home), "LESSON_EDITION": "pocket"}
    return course.read(environ | {f"LESSON_{name.upper()}": str(value) for name, value in values.items()})


@contextmanager
def refused(code: str, *parts: str):
    """Expect a LessonError of this code inside the block; what it must name (a file, a number) stands in its text.

    How the sentence goes is no test's affair but tests/test_error_texts.py's.
    """
    with pytest.raises(LessonError) as caught:
        yield caught
    assert (caught.value.code, [p for p in parts if p not in str(caught.value)]) == (code, []), str(caught.value)


def clean_environ(home: Path, **more) -> dict[str, str]:
    """Return an environment for a subprocess: nothing of this one's LESSON_... and HF_..., all caches in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LESSON_", "HF_"))}
    mine = {"LESSON_HOME": str(home / "lesson_home"), "HF_HOME": str(home / "hf"), "PYTHONPATH": str(ROOT)}
    return kept | mine | {"IPYTHONDIR": str(home / "ipython")} | {name: str(value) for name, value in more.items()}


def run(*command, timeout: float = 600, **options) -> subprocess.CompletedProcess:
    """Run a Python command line (python ...) to its end; return it with its output as text.

    After `timeout` seconds it is killed with all processes that it has started.
    """
    command = [sys.executable, *map(str, command)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **options) as process:
        try:
            out, errors = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def source(cell) -> str:
    """Return the text of a notebook's cell."""
    return "".join(cell["source"])


def load_notebook(path: Path) -> dict:
    """Return a notebook's JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(path: Path) -> list[dict]:
    """Return a notebook's code cells in order."""
    return [cell for cell in load_notebook(path)["cells"] if cell["cell_type"] == "code"]


def cell_with(path: Path, text: str) -> str:
    """Return the source of the one code cell that contains text."""
    (found,) = [source(cell) for cell in code_cells(path) if text in source(cell)]
    return found


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a lower-casing WordPiece tokenizer that knows a few words, and spells all others."""
    signs = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = SPECIAL + [*GOOD, *BAD, *OTHER] + [*signs] + [f"##{sign}" for sign in signs]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, model_input_names=inputs, **names)


def tiny_model(folder: Path, seed: int = 0, dim: int = 32, dtype: torch.dtype = torch.float32) -> Path:
    """Write a DistilBERT with one layer into folder, with its tokenizer; return the folder.

    Its words of praise and of blame point in opposite directions, and its one layer passes their mean on: it is
    "pretrained" by hand, so that a few steps of fine-tuning are enough.
    """
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    config = DistilBertConfig(
        vocab_size=len(tokenizer), dim=dim, hidden_dim=2 * dim, n_layers=1, n_heads=2, max_position_embeddings=128
    )
    model = DistilBertModel(config)
    direction = torch.randn(dim).sign()
    with torch.no_grad():
        table = model.embeddings.word_embeddings.weight
        for words, sign in ((GOOD, 1), (BAD, -1)):
            table[tokenizer.convert_tokens_to_ids(list(words))] = sign * direction
        attention = model.transformer.layer[0].attention
        attention.v_lin.weight.copy_(torch.eye(dim))
        attention.out_lin.weight.copy_(20 * torch.eye(dim))
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def clause(generator: random.Random, words) -> list[str]:
    """Return a few random words, one of them from `words`."""
    made = generator.choices(OTHER, k=generator.randint(3, 6))
    made.insert(generator.randrange(len(made)), generator.choice(words))
    return made


def tiny_rows(sentences: int, seed: int = 0, phrases: int = 0, noise: float = 0.1) -> list[dict]:
    """Return sentences of one to four clauses, all of praise or all of blame, and phrases cut from each of them.

    Args:
        phrases: how many phrases are cut from each sentence.
        noise: share of the sentences whose label is wrong, so that no model gets all of them right.
    """
    generator, rows = random.Random(seed), []
    for number in range(sentences):
        label = number % 2
        words = [w for _ in range(generator.randint(1, 4)) for w in clause(generator, (BAD, GOOD)[label])]
        words += ["number", *str(generator.randrange(10**6))]  # no sentence is written twice
        told = 1 - label if generator.random() < noise else label
        rows.append({"sentence": " ".join(words), "label": told})
        for _ in range(phrases):
            begin = generator.randrange(len(words) - 3)
            piece = words[begin : begin + generator.randint(2, 6)]
            rows.append({"sentence": " ".join(piece), "label": told})
    return [{"idx": number} | row for number, row in enumerate(rows)]


def to_dataset(rows: list[dict]) -> Dataset:
    """Return rows of idx, sentence and label as a data set with the features of SST-2."""
    names = ClassLabel(names=["negative", "positive"])
    return Dataset.from_list(rows, Features(idx=Value("int32"), sentence=Value("string"), label=names))


def sst2_like(sentences: int = 240, phrases: int = 2) -> DatasetDict:
    """Return train with phrases cut from its sentences, a labelled validation, and a test whose labels are secret."""
    secret = [row | {"label": -1} for row in tiny_rows(40, seed=3)]
    return DatasetDict(
        train=to_dataset(tiny_rows(sentences, 1, phrases)),
        validation=to_dataset(tiny_rows(120, seed=2)),
        test=to_dataset(secret),
    )


def tiny_data(folder: Path, train: int = 96, seed: int = 5) -> Path:
    """Write a data set of three labelled splits as parquet files into folder; return the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for place, (name, rows) in enumerate({"train": train, "validation": 40, "test": 50}.items()):
        to_dataset(tiny_rows(rows, seed + place)).to_parquet(folder / f"{name}.parquet")
    return folder
