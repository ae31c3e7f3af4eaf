package com.hadoop.compression.lzo;

/** The class that parquet-mr looks for when a column is compressed with LZO; aircompressor does the work. */
public class LzoCodec extends io.airlift.compress.lzo.LzoCodec {}
