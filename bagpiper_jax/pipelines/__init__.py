"""Offline work on an engine that exists: Apache Beam, in this process, on all cores, or on Dataflow, Flink or Spark.

`each.for_each` is the door: a job that can write its result piece by piece, each whole or absent, names its pieces and
a function that writes one. A piece that a lost worker began is written again, and one that was written twice is the
same.
"""
