"""Make a table of trajectories from an archive of OTLP JSON lines, as the Collector's file exporter writes them.

spark-submit examples/spark/trajectories.py otlp/ trajectories/
"""

import os
import sys

from pyspark.sql import SparkSession

from spanrelay.spark import trajectories

# Workers start the `python3` of PATH unless they are told to take this one.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

source, output = sys.argv[1:]
spark = SparkSession.builder.appName("trajectories").getOrCreate()
found = trajectories(spark.read.text(source)).cache()
found.filter("document IS NOT NULL").drop("fault").write.mode("overwrite").parquet(output)
for row in found.filter("fault IS NOT NULL").select("fault").limit(20).collect():
    print(row.fault, file=sys.stderr)
found.groupBy("agent").sum("steps", "prompt_tokens", "completion_tokens", "errors").show(truncate=False)
spark.stop()
