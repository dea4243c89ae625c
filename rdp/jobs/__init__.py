"""Running jobs: attempts, locks, processes, GPUs, progress and energy."""
