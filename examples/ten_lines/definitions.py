import dagster as dg

from s3dest_dagster import S3DestinationIOManager, stream_asset


@stream_asset
def planets():
    yield {"name": "Earth", "moons": 1}
    yield {"name": "Mars", "moons": 2}


lake = S3DestinationIOManager(s3_bucket_name=dg.EnvVar("S3_BUCKET"), s3_bucket_path="lake")
defs = dg.Definitions(assets=[planets], resources={"io_manager": lake})
