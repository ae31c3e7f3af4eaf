"""What `dg scaffold defs s3dest_dagster.S3DestinationComponent NAME` writes: a component that loads, to begin with."""

from typing import Any

from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component

_BEGINNING = """\
type: {type_name}

attributes:
  source:
    type: files  # or python, or airbyte
    path: inbox/*.jsonl
  # source:
  #   type: airbyte
  #   command: source-shop
  #   config:
  #     api_key: "{{{{ env_var('SHOP_API_KEY') }}}}"
  #     start_date: "{{{{ partition_start }}}}"
  #   catalog: catalog.json  # s3dest discover --source source-shop --config source.json > catalog.json

  streams:
    - name: {name}
      sync_mode: full_refresh  # each run reads all files; append would add them again

  # partitions_def:
  #   type: daily
  #   start_date: 2026-01-01

  # A connector's config.json can be pasted here, or named: destination: config.json
  destination:
    s3_bucket_name: my-bucket
    s3_bucket_path: lake
    format:
      format_type: Parquet
"""


class S3DestinationScaffolder(Scaffolder[Any]):
    """Writes `defs.yaml` with files as the source, and the other sources as comments."""

    def scaffold(self, request: ScaffoldRequest[Any]) -> None:
        if request.scaffold_format != "yaml":
            scaffold_component(request)
            return
        text = _BEGINNING.format(type_name=request.type_name, name=request.target_path.name)
        path = request.target_path if request.append else request.target_path / "defs.yaml"
        with path.open("a" if request.append else "w", encoding="utf-8") as file:
            file.write(f"---\n{text}" if request.append else text)
