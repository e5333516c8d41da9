"""The accuracy metric as a script that `evaluate.load` reads from this file: no download."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score


class Accuracy(evaluate.Metric):
    """The share of predictions that equal the reference, from 0 to 1."""

    def _info(self):
        return evaluate.MetricInfo(
            description="The share of predictions that equal the reference, from 0 to 1.",
            citation="Pedregosa et al., Scikit-learn: Machine Learning in Python, JMLR 12, 2011.",
            inputs_description="predictions and references: lists of class numbers, equally long.",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references):
        return {"accuracy": float(accuracy_score(references, predictions))}
