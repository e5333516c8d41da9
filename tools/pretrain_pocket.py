"""Rebuild the pocket model: a 3.7-million-parameter DistilBERT encoder for film-review English, made on a CPU.

    python pretrain_pocket.py --out pocket-distilbert --work pretrain_work

A small student with random weights learns to predict the hidden states of a larger teacher, word by word, and the
teacher's sentence vector at its own [CLS] position, the one DistilBertForSequenceClassification reads. No sentiment
label is read. The text is the training splits of SST-2 and of the pocket reviews (never what they are tested on), and
programmed variations of it: a teacher can label any text.
The methods: distillation of hidden states (Sanh et al. 2019, DistilBERT; Jiao et al. 2020, TinyBERT), predicting the
full text's states from a partly masked input (Baevski et al. 2022, data2vec), WordPiece (Schuster and Nakajima 2012).

Two stages, both resumable: run the same command again after a kill. (1) The teacher reads every text once and its word
states go to <work>/teacher.npy (float16, 1.7 GB by default). (2) The student trains on them; each epoch is saved.
"""

import argparse
import hashlib
import json
import math
import random
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from datasets import load_dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.durable.files import read_json, write_json  # noqa: E402

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # ids 0 to 4
POCKET = Path(__file__).resolve().parent.parent / "helpers" / "pocket"
MAX_LENGTH = 128  # the student's longest input, in tokens
BATCH = 4096  # tokens a batch, padding included


def spans(sentence):
    """Return every run of neighbouring words of a sentence."""
    words = sentence.split()
    return {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


def read_text(args):
    """Return (rows, whole): every distinct training row, and the whole sentences.

    Of SST-2 a sentence is whole that has five words or more and lies inside no other row; our own text says it.
    """
    try:
        data = load_dataset(args.text, revision=args.text_revision, split="train")["sentence"]
    except (OSError, ValueError) as error:
        raise SystemExit(f"Cannot read the text {args.text!r}: {error}\nNext: check the network, or --text.") from error
    rows = sorted({line.strip() for line in data}, key=lambda s: (-len(s.split()), s))
    seen, whole = set(), []
    for row in rows:  # longest first, so a phrase always comes after its sentence
        if row not in seen:
            whole.append(row)
            seen |= spans(row)
    whole = [s for s in whole if len(s.split()) >= 5]
    random.Random(args.seed).shuffle(whole)
    held = set().union(*map(spans, whole[: args.hold_out]))
    rows, whole = [r for r in rows if r not in held], whole[args.hold_out :]
    for folder in args.own_text:
        own = load_dataset(folder, split="train")
        rows += own["sentence"]
        whole += [row["sentence"] for row in own if row.get("phenomenon") != "phrase"]
    return rows, whole


def augment(rows, whole, pool, args):
    """Return all texts, shuffled: the rows, joined phrases, sentences with replaced words, two sentences crossed.

    pool: words of the teacher's vocabulary; half of the replacements come from it, half from the sentences.
    """
    rng = random.Random(args.seed + 1)
    short, own = [r for r in rows if 2 <= len(r.split()) <= 14], [w for s in whole for w in s.split()]
    texts = []
    for _ in range(args.joined):
        parts = rng.sample(short, rng.choice((2, 2, 3)))
        joins = [p + rng.choice((" , ", " and ", " but ", " . ", " -- ", " ")) for p in parts[:-1]]
        texts.append("".join(joins) + parts[-1])
    for _ in range(args.replaced):
        words, rate = rng.choice(whole).split(), rng.choice((0.15, 0.3, 0.5))
        words = [rng.choice(pool if rng.random() < 0.5 else own) if rng.random() < rate else w for w in words]
        texts.append(" ".join(w for w in words if rng.random() > 0.03))
    for _ in range(args.crossed):
        a, b = rng.choice(whole).split(), rng.choice(whole).split()
        texts.append(" ".join(a[: rng.randint(1, len(a))] + b[rng.randint(0, len(b) - 1) :]))
    texts = rows + [" ".join(t.split()[:60]) for t in texts]
    random.Random(args.seed + 2).shuffle(texts)
    return texts


def train_tokenizer(lines, size):
    """Train a lower-case WordPiece tokenizer of `size` pieces with BERT's normaliser and word splitter."""
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer, tok.decoder = normalizers.BertNormalizer(lowercase=True), decoders.WordPiece()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    tok.train_from_iterator(lines, trainer)
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tok.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", special_tokens=ends)
    names = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tok, model_max_length=MAX_LENGTH, model_input_names=inputs, **names)


def word_means(states, word_ids, counts):
    """Average the pieces of each word: states [B, T, D] -> [sum(counts), D].

    word_ids: per text, the word number of each piece between [CLS] and [SEP]; counts: words per text.
    """
    slots = torch.full(states.shape[:2], -1)
    for r, (ids, base) in enumerate(zip(word_ids, np.cumsum(counts) - counts, strict=True)):
        slots[r, 1 : len(ids) + 1] = torch.as_tensor(ids) + int(base)
    keep = slots >= 0
    total = torch.zeros(int(sum(counts)), states.shape[-1]).index_add_(0, slots[keep], states[keep].float())
    return total / torch.bincount(slots[keep], minlength=len(total))[:, None]


def teacher_states(teacher, tok, texts, counts, args):
    """Return the teacher's word states [all words, width] (float16, on disk), reading the texts not yet done."""
    key = hashlib.sha256(json.dumps([args.teacher, [args.target_layer], texts]).encode()).hexdigest()
    path, mark = Path(args.work, "teacher.npy"), Path(args.work, "teacher_done.json")
    state = (read_json(mark) if path.exists() else None) or {}
    done = state["done"] if state.get("key") == key else 0
    shape, starts = (int(sum(counts)), teacher.config.hidden_size), np.cumsum(counts) - counts
    cache = np.lib.format.open_memmap(path, mode="r+" if done else "w+", dtype=np.float16, shape=shape)
    begin = time.time()
    for first in range(done, len(texts), 4096):
        last = min(first + 4096, len(texts))
        order = sorted(range(first, last), key=lambda i: counts[i])
        for part in (order[a : a + 128] for a in range(0, len(order), 128)):
            batch = tok([texts[i] for i in part], padding=True, return_tensors="pt")
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                states = teacher(**batch, output_hidden_states=True).hidden_states[args.target_layer]
            ids = [[w for w in batch.word_ids(r) if w is not None] for r in range(len(part))]
            means = word_means(states, ids, counts[part]).numpy()
            for i, rows in zip(part, np.split(means, np.cumsum(counts[part])[:-1]), strict=True):
                cache[starts[i] : starts[i] + counts[i]] = rows
        cache.flush()
        write_json(mark, {"key": key, "done": last})
        print(f"teacher: {last} of {len(texts)} texts, {time.time() - begin:.0f} s", flush=True)
    return cache


def make_batches(lengths, seed):
    """Group texts of similar length into shuffled batches of at most BATCH tokens."""
    rng, order, out = random.Random(seed), list(range(len(lengths))), []
    rng.shuffle(order)
    for a in range(0, len(order), 8192):
        group, size = [], 0
        for i in sorted(order[a : a + 8192], key=lambda i: lengths[i]):
            if group and (len(group) + 1) * max(size, lengths[i]) > BATCH:
                out.append(group)
                group = []
            group.append(i)
            size = lengths[i]  # lengths only grow inside a sorted group
        out.append(group)
    rng.shuffle(out)
    return out


def pretrain(student, ids, word_ids, counts, cache, args):
    """Train the student; return the seconds spent. Targets are whitened, so quiet directions count as loud ones do.

    Loss = MSE(linear(word states), teacher's word states) + MSE(linear([CLS] state), mean of the text's word states).
    """
    starts, lengths, width = np.cumsum(counts) - counts, [len(x) for x in ids], cache.shape[1]
    heads = torch.nn.ModuleList([torch.nn.Linear(args.dim, width), torch.nn.Linear(args.dim, width)])  # word, [CLS]
    pick = np.sort(np.random.default_rng(args.seed).choice(len(ids), min(20000, len(ids)), replace=False))
    sample = [torch.from_numpy(cache[starts[i] : starts[i] + counts[i]].astype(np.float32)) for i in pick]
    mean = torch.cat(sample).mean(0)
    value, vector = torch.linalg.eigh(torch.cov((torch.cat(sample) - mean).T))
    whiten = vector * (value.clamp(min=0) + args.whiten * value.mean()).rsqrt()
    spread = torch.stack([((s - mean) @ whiten).mean(0) for s in sample]).std(0)  # of sentence vectors
    params = [*student.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    options = {k: v for k, v in vars(args).items() if k not in ("out", "work", "card")}
    saved, first, spent, losses = Path(args.work, "student.pt"), 0, 0.0, []
    if saved.exists():
        state = torch.load(saved)
        if state["options"] != options:
            raise SystemExit(f"{saved} is of a run with other options.\nNext: take another --work or delete it.")
        torch.nn.ModuleList([student, heads]).load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent, losses = state["epoch"], state["spent"], state["losses"]
        print(f"resuming after epoch {first}", flush=True)
    total = len(make_batches(lengths, 0)) * args.epochs  # steps, give or take a few
    for epoch in range(first, args.epochs):
        torch.manual_seed(args.seed * 1000 + epoch)
        begin, log, plan = time.time(), [], make_batches(lengths, args.seed * 1000 + epoch)
        for n, group in enumerate(plan, 1):
            step = epoch * total // args.epochs + n
            decay = 0.5 + 0.5 * math.cos(math.pi * 6 / 7 * min(1.0, (step - 1) / total))  # ends at 5 % of the peak
            optimizer.param_groups[0]["lr"] = args.lr * min(1.0, step / (0.28 * total / args.epochs)) * decay
            tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in group], batch_first=True)
            hidden = (torch.rand(tokens.shape) < args.mask) & (tokens >= len(SPECIAL))
            target = np.concatenate([cache[starts[i] : starts[i] + counts[i]] for i in group])
            target = (torch.from_numpy(target).float() - mean) @ whiten
            owner = torch.repeat_interleave(torch.arange(len(group)), torch.from_numpy(counts[group]))
            sentence = torch.zeros(len(group), width).index_add_(0, owner, target)
            sentence = sentence / torch.from_numpy(counts[group])[:, None] / spread
            with torch.autocast("cpu", torch.bfloat16):
                masked = torch.where(hidden, SPECIAL.index("[MASK]"), tokens)
                states = student(masked, attention_mask=(tokens > 0).long()).last_hidden_state
                words = heads[0](word_means(states, [word_ids[i] for i in group], counts[group])).float()
                word_loss = torch.nn.functional.mse_loss(words, target)
                sentence_loss = torch.nn.functional.mse_loss(heads[1](states[:, 0]).float(), sentence)
            (word_loss + sentence_loss).backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            log.append((word_loss.item(), sentence_loss.item()))
            if n % 100 == 0 or n == len(plan):
                word, sent = np.mean(log[-100:], 0)
                line = f"epoch {epoch + 1} of {args.epochs}, batch {n} of {len(plan)}: loss {word:.3f} (words)"
                print(f"{line} {sent:.3f} (sentences), {time.time() - begin:.0f} s", flush=True)
        spent += time.time() - begin
        losses.append(float(np.mean(log, 0).sum()))
        weights = torch.nn.ModuleList([student, heads]).state_dict()
        state = {"weights": weights, "optimizer": optimizer.state_dict(), "options": options}
        torch.save(state | {"epoch": epoch + 1, "spent": spent, "losses": losses}, saved.with_suffix(".tmp"))
        saved.with_suffix(".tmp").replace(saved)
    return spent


def parse():
    """Read the options; the defaults rebuild the released folder."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("--out", default="pocket-distilbert", help="folder to write the model to")
    add("--work", default="pretrain_work", help="folder for the teacher's states and the saved epochs; delete it after")
    add("--card", help="Markdown file to copy to README.md, the model card")
    add("--teacher", default="sentence-transformers/all-MiniLM-L6-v2", help="Hub id of a BERT-like encoder, lower case")
    add("--teacher-revision", default="c9745ed1d9f207416be6d2e6f8de32d1f16199bf")
    add("--target-layer", type=int, default=4, help="teacher layer to imitate; 0 is its embeddings")
    add("--text", default="stanfordnlp/sst2", help="Hub id of the text; only column `sentence` of split train is used")
    add("--text-revision", default="8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb")
    add("--own-text", nargs="*", default=[str(POCKET / "data")], help="folders of further text, as pocket reviews are")
    add("--hold-out", type=int, default=0, help="whole sentences to leave out, with their phrases, for a diagnosis")
    add("--joined", type=int, default=30000, help="texts made by joining two or three phrases")
    add("--replaced", type=int, default=80000, help="texts made by replacing 15 to 50 %% of a sentence's words")
    add("--crossed", type=int, default=30000, help="texts made of the start of one sentence and the end of another")
    add("--vocab", type=int, default=8000, help="WordPiece pieces")
    add("--dim", type=int, default=256, help="student's width")
    add("--hidden", type=int, default=512, help="student's feed-forward width")
    add("--layers", type=int, default=3)
    add("--heads", type=int, default=4)
    add("--epochs", type=int, default=8)
    add("--lr", type=float, default=1e-3, help="peak learning rate (warm-up over 0.28 epochs, then cosine to 5 %%)")
    add("--mask", type=float, default=0.1, help="share of the student's input pieces replaced by [MASK]")
    add("--whiten", type=float, default=0.1, help="added to every variance, in mean variances")
    add("--seed", type=int, default=0)
    return p.parse_args()


def main():
    """Make the text, read it with the teacher, train the student, write the folder."""
    args = parse()
    Path(args.work).mkdir(parents=True, exist_ok=True)
    name = {"pretrained_model_name_or_path": args.teacher, "revision": args.teacher_revision}
    try:
        teacher_tok = AutoTokenizer.from_pretrained(**name)
        teacher = AutoModel.from_pretrained(**name, attn_implementation="eager").eval()  # eager: faster here on a CPU
    except OSError as error:
        raise SystemExit(f"Cannot read teacher {args.teacher!r}: {error}\nNext: check network or --teacher.") from error
    rows, whole = read_text(args)
    pool = sorted(w for w in teacher_tok.get_vocab() if w.isascii() and w.isalpha() and len(w) > 2)
    texts = augment(rows, whole, pool, args)
    if not Path(args.work, "tokenizer", "tokenizer.json").exists():  # equal counts may fall either way: keep the first
        train_tokenizer(whole, args.vocab).save_pretrained(Path(args.work, "tokenizer"))
    tok = AutoTokenizer.from_pretrained(Path(args.work, "tokenizer"))
    mine, its = tok(texts), teacher_tok(texts)
    word_ids = [mine.word_ids(i)[1:-1] for i in range(len(texts))]
    # Both split words alike, so words pair up by number; drop a text if not, or if it is empty or too long.
    keep = [i for i, w in enumerate(word_ids) if 0 < len(w) <= MAX_LENGTH - 2 and w[-1] == its.word_ids(i)[-2]]
    texts, ids, word_ids = [texts[i] for i in keep], [mine["input_ids"][i] for i in keep], [word_ids[i] for i in keep]
    counts = np.array([w[-1] + 1 for w in word_ids])  # words per text
    print(f"{len(rows)} rows, {len(whole)} whole sentences; {len(texts)} texts of {sum(counts)} words", flush=True)
    cache = teacher_states(teacher, teacher_tok, texts, counts, args)
    torch.manual_seed(args.seed)
    shape = {"dim": args.dim, "hidden_dim": args.hidden, "n_layers": args.layers, "n_heads": args.heads}
    shape |= {"vocab_size": len(tok), "max_position_embeddings": MAX_LENGTH, "pad_token_id": 0}
    config = DistilBertConfig(**shape, dropout=0.0, attention_dropout=0.0, attn_implementation="eager")
    student = DistilBertModel(config).train()
    print(f"student: {student.num_parameters()} parameters", flush=True)
    spent = pretrain(student, ids, word_ids, counts, cache, args)
    student.config.dropout = student.config.attention_dropout = 0.1  # for fine-tuning
    student.half().save_pretrained(args.out)
    tok.save_pretrained(args.out)
    if args.card:
        shutil.copy(args.card, Path(args.out, "README.md"))
    size = sum(f.stat().st_size for f in Path(args.out).iterdir())
    print(f"{args.out}: {size} bytes, {spent:.0f} s of student training", flush=True)


if __name__ == "__main__":
    main()
