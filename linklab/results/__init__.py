"""Results: what was measured, kept so that every report can be made from it again."""
