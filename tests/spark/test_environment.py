"""The tests of this folder run in an environment where Spark is."""

from pathlib import Path

from tests.own_environment import TOOLS, apart, programs_of, run_tests_of


@apart("pyspark", "SPANRELAY_TEST_SPARK")
def test_the_tests_of_this_folder_pass_where_spark_is() -> None:
    environment = programs_of("spark", ("testkit",), ("pandas < 3", "pyarrow", "pyspark", *TOOLS))
    run_tests_of(environment, Path(__file__).parent)
