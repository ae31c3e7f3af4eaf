# The destination as a connector image, for platforms that run connectors in containers. Build it in the clone:
#
#     docker build --file deploy/destination.Dockerfile --tag registry.example.com/destination-s3dest:1 .

FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1

# The locked versions, with their hashes.
COPY requirements/scale.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/requirements.txt

COPY pyproject.toml setup.py README.md LICENSE /tmp/library/
COPY s3dest_dagster /tmp/library/s3dest_dagster
RUN pip install --no-cache-dir --no-deps /tmp/library && rm -r /tmp/library

RUN useradd --create-home --uid 1000 airbyte
USER airbyte
WORKDIR /home/airbyte

# Platforms read this variable to find the command.
ENV AIRBYTE_ENTRYPOINT="destination-s3dest"
ENTRYPOINT ["destination-s3dest"]
