"""Every variant of a run's model on every runtime, kernel family and number of threads."""

MATRIX, TIMES = "matrix.json", "matrix_times.json"
