"""What a run costs on devices that need not be there: memory, FLOPs, communication, time."""
