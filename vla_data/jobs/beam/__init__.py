"""The same parts on Apache Beam."""
