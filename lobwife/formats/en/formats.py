"""Times on the pages, which are UTC and say so: they sort as they read, and are written as in logs and notes."""

DATE_FORMAT = SHORT_DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = SHORT_DATETIME_FORMAT = r"Y-m-d H:i:s \U\T\C"
TIME_FORMAT = "H:i:s"
