"""The same parts on Apache Beam."""


def __getattr__(name: str) -> object:
    """`BeamEngine` and `MakeParts`, which load Beam."""
    if name in ("BeamEngine", "MakeParts"):
        from vla_data.jobs.beam import engine

        return getattr(engine, name)
    raise AttributeError(name)
