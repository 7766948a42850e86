"""Takes orders, and tells what has become of them."""
