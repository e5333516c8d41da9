"""Helpers of the course "Fine-tune a small language model, step by step".

The course, one module a lesson, each standing on those before it:

==== ================ ================================================================================================
01   `gpu`            what the machine can do, and how long training will take on it
02   `data`           open the data, split it honestly, know the score to beat (`columns`: which data will do)
03   `tokenization`   from sentences to token ids, and how little padding a batch needs
04   `training`       train the model, keep its best epoch
05   `evaluation`     how good is it, really?
06   `speed`          where the speed comes from
==== ================ ================================================================================================

What the lessons share: `course` (the front door of every notebook), `settings` (which edition, model and data),
`recipe` (the hyperparameters), `models` (tokenizer, model and head), `plots` (figures), `diagrams` (pictures of how
things hang together, drawn on a `sheet`), `threads` (a good neighbour on a busy machine) and `metrics/accuracy.py`.

Around it: `durable/` (nothing is lost, nothing is half there; knows nothing of the course), `exercises/` (checks that
answer back), `classroom/` (the lesson runner, the teacher's table) and `pocket/` (data and model of the small edition).
"""

from helpers import threads

__version__ = "1.0.0"

threads.be_polite()
threads.use_one_gpu()
