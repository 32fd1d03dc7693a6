"""The tests of this folder run in an environment where boto3 and a server of object storage are."""

from pathlib import Path

from tests.own_environment import TOOLS, apart, programs_of, run_tests_of

COLLECT = ("brotli", "confluent-kafka", "httptools", "httpx", "pytest-timeout", "uvicorn", "zstandard")


@apart("boto3", "SPANRELAY_TEST_S3")
def test_the_tests_of_this_folder_pass_where_boto3_is() -> None:
    environment = programs_of("s3", ("testkit",), ("boto3", "moto[s3,server]", *COLLECT, *TOOLS))
    run_tests_of(environment, Path(__file__).parent)
