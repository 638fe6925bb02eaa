"""Measures of an estimate against clean speech, and the processes that compute them."""
