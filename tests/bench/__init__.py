"""``make bench``: dispatch, width and growth, as ratios against bare Celery in the same run."""
