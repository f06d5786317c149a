"""Reading what strangers made: nothing is executed, imported or allocated on a file's word."""
