import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Orders and cents per shop and minute in Kafka Streams, each window handed on once, when it closes.
 *
 * <p>Arguments: bootstrap servers, topic, topic for JSON results, topic for results with Kafka Streams' own binary keys,
 * grace in milliseconds, folder of the state. Runs until it is ended by SIGTERM; says READY, and at the end how many
 * records the engine itself counted as dropped.
 */
public final class KafkaStreamsOrders {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long WINDOW_MS = 60_000;

    private KafkaStreamsOrders() {}

    private static JsonNode read(String value) {
        try {
            return JSON.readTree(value);
        } catch (java.io.IOException error) {
            throw new IllegalArgumentException(error);
        }
    }

    private static String added(String sums, String value) {
        JsonNode so = read(sums);
        long cents = so.get("cents").asLong() + read(value).get("cents").asLong();
        return "{\"orders\": " + (so.get("orders").asLong() + 1) + ", \"cents\": " + cents + "}";
    }

    public static void main(String[] args) throws InterruptedException {
        StreamsBuilder builder = new StreamsBuilder();
        Consumed<String, String> read = Consumed.with(Serdes.String(), Serdes.String());
        Materialized<String, String, WindowStore<Bytes, byte[]>> kept =
                Materialized.with(Serdes.String(), Serdes.String());
        KStream<Windowed<String>, String> closed =
                builder.stream(args[1], read.withTimestampExtractor((each, before) -> read((String) each.value()).get("at").asLong()))
                        .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
                        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMillis(WINDOW_MS), Duration.ofMillis(Long.parseLong(args[4]))))
                        .aggregate(() -> "{\"orders\": 0, \"cents\": 0}", (shop, value, sums) -> added(sums, value), kept)
                        .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
                        .toStream();
        closed.map((window, sums) -> KeyValue.pair(
                        window.key(),
                        "{\"shop\": \"" + window.key() + "\", \"window_start\": " + window.window().start() + ", " + sums.substring(1)))
                .to(args[2], Produced.with(Serdes.String(), Serdes.String()));
        closed.to(args[3], Produced.with(WindowedSerdes.timeWindowedSerdeFrom(String.class, WINDOW_MS), Serdes.String()));

        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[2] + "-app");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        settings.put("auto.offset.reset", "earliest");
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                System.out.println("READY");
            } else if (now == KafkaStreams.State.ERROR) {
                System.exit(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            double dropped = streams.metrics().values().stream()
                    .filter(each -> each.metricName().name().equals("dropped-records-total"))
                    .mapToDouble(each -> (Double) each.metricValue())
                    .sum();
            System.out.println("DROPPED " + Math.round(dropped));
            streams.close(Duration.ofSeconds(30));
        }));
        streams.start();
        Thread.currentThread().join();
    }
}
