"""Which estimates to believe over time, and where to look next; numbers only, without ROS and without networks."""
