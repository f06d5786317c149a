"""Images and video: still encoded as long as nobody looks at them."""
