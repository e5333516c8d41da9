"""Helpers of the course "Fine-tune a small language model, step by step".

One module a notebook, in the same words: ``gpu`` (01), ``data`` (02), ``tokenization`` (03), ``training`` (04),
``evaluation`` (05) and ``speed`` (06). What they share: ``settings`` (which edition runs), ``files`` (nothing
half-written is ever left behind), ``checkpoints`` and ``resumable`` (a training that is interrupted goes on),
``colab`` (Google Drive), ``hub`` (waits for the Hugging Face Hub, and looks up commits there), ``errors`` (what its
and the libraries' errors mean), ``pretrained`` (which models will do), ``columns`` (which data will do), ``plots``
(figures), ``report`` (sentences made from figures), ``accuracy`` (the metric), ``check`` (exercises that answer back;
the questions are in ``exercises``) and ``progress`` (which are solved). ``lesson``, ``badges`` and ``__main__`` are
the commands.
"""

__version__ = "0.1.0"
