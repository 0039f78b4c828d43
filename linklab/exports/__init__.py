"""Suites of outcomes in the formats of other tools: JUnit, KTAP, KCIDB. Pure."""
