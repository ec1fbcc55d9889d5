"""The layer report: where an int8 file loses what its float network says."""

PHOTOS = 32  # of the run's validation photos, when nobody says
