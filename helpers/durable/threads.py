def share_processors():
    pass


def busy(seconds: float = 0.3) -> float:
    return 0.0
