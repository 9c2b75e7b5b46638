"""The town written in the folder layouts of public data sets, so that what reads those can be tested without them."""
