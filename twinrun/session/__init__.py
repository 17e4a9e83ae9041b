"""The machine below a job: Java, jars, the Spark session and its JVM."""
