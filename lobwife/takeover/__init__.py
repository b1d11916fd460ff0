"""Taking over what an earlier start, or the older service, left in the state directory.

The order is what makes it safe: read and judge everything first, copy next, change last. Each step can be interrupted
and repeated.
"""
