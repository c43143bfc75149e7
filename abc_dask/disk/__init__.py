"""Files that are whole or absent, checked Parquet, tables kept between runs, retries."""
