"""What a :class:`~discffusion.trainer.Trainer` is made of: options, items, the run, its folder and its history."""
