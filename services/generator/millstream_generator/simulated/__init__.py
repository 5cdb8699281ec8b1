"""The simulated model: an OpenAI-compatible server process whose answers are made by a seed.

It is reached over HTTP like any provider and stands in for none of our own parts. Its text is
readable and obeys the schema that was asked for, but it means nothing; every sample made with it
names its model ``simulated/<profile>``.
"""
