"""What `cross_view_loc demo` is made of: the node as its own process, and the table it ends in."""
