"""Batch schedulers: what to ask them, what it costs, and what they answer. The text of both directions is made here."""
