"""Network parts that methods put into a model."""
