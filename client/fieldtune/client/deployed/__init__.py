"""Deployed models on a device; ``load`` and what it returns are for applications.

::

    from fieldtune.client import deployed

    model = deployed.load()
    answer = model.predict(pixels)          # raw values; scaled as for training
    print(answer.label, answer.probability)
"""

from fieldtune.client.deployed.model import DeployedModel, Prediction, load

__all__ = ["DeployedModel", "Prediction", "load"]
