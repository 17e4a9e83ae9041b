import java.time.Duration;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.util.Collector;

/**
 * Orders and cents per shop and minute in Flink, by one subtask, up to the end of the topic as it is, or for ever.
 *
 * <p>Arguments: bootstrap servers, topic, topic for results, lateness in milliseconds, and how: {@code datastream} (a
 * watermark per event), {@code default} (the strategy that Flink offers: one every 200 ms) or {@code sql}; then, for one
 * that does not end, {@code forever}.
 */
public final class FlinkOrders {
    private FlinkOrders() {}

    /** A watermark with every event, one millisecond behind, as BoundedOutOfOrdernessWatermarks has it. */
    private static final class PerEvent implements WatermarkGenerator<Tuple3<String, Long, Long>> {
        private final long latenessMs;
        private long newestMs = Long.MIN_VALUE / 2;

        private PerEvent(long latenessMs) {
            this.latenessMs = latenessMs;
        }

        @Override
        public void onEvent(Tuple3<String, Long, Long> event, long atMs, WatermarkOutput output) {
            newestMs = Math.max(newestMs, atMs);
            output.emitWatermark(new Watermark(newestMs - latenessMs - 1));
        }

        @Override
        public void onPeriodicEmit(WatermarkOutput output) {}
    }

    /** Orders and cents so far. */
    private static final class Sums
            implements AggregateFunction<Tuple3<String, Long, Long>, Tuple2<Long, Long>, Tuple2<Long, Long>> {
        @Override
        public Tuple2<Long, Long> createAccumulator() {
            return Tuple2.of(0L, 0L);
        }

        @Override
        public Tuple2<Long, Long> add(Tuple3<String, Long, Long> event, Tuple2<Long, Long> sums) {
            return Tuple2.of(sums.f0 + 1, sums.f1 + event.f2);
        }

        @Override
        public Tuple2<Long, Long> getResult(Tuple2<Long, Long> sums) {
            return sums;
        }

        @Override
        public Tuple2<Long, Long> merge(Tuple2<Long, Long> one, Tuple2<Long, Long> other) {
            return Tuple2.of(one.f0 + other.f0, one.f1 + other.f1);
        }
    }

    /** A window's sums as JSON. */
    private static final class Written extends ProcessWindowFunction<Tuple2<Long, Long>, String, String, TimeWindow> {
        @Override
        public void process(String shop, Context context, Iterable<Tuple2<Long, Long>> found, Collector<String> out) {
            for (Tuple2<Long, Long> sums : found) {
                out.collect(String.format(
                        "{\"shop\": \"%s\", \"window_start\": %d, \"orders\": %d, \"cents\": %d}",
                        shop, context.window().getStart(), sums.f0, sums.f1));
            }
        }
    }

    private static void datastream(String[] args, WatermarkStrategy<Tuple3<String, Long, Long>> strategy) throws Exception {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(1);
        KafkaSourceBuilder<String> source = KafkaSource.<String>builder()
                .setBootstrapServers(args[0])
                .setTopics(args[1])
                .setGroupId(args[2] + "-group")
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setValueOnlyDeserializer(new SimpleStringSchema());
        if (!forever(args)) {
            source.setBounded(OffsetsInitializer.latest());
        }
        KafkaSink<String> sink = KafkaSink.<String>builder()
                .setBootstrapServers(args[0])
                .setRecordSerializer(KafkaRecordSerializationSchema.builder()
                        .setTopic(args[2])
                        .setValueSerializationSchema(new SimpleStringSchema())
                        .build())
                .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
                .build();
        ObjectMapper json = new ObjectMapper();
        env.fromSource(source.build(), WatermarkStrategy.noWatermarks(), "orders")
                .map(value -> {
                    JsonNode event = json.readTree(value);
                    return Tuple3.of(event.get("shop").asText(), event.get("at").asLong(), event.get("cents").asLong());
                })
                .returns(Types.TUPLE(Types.STRING, Types.LONG, Types.LONG))
                .assignTimestampsAndWatermarks(strategy.withTimestampAssigner((event, before) -> event.f1))
                .keyBy(event -> event.f0)
                .window(TumblingEventTimeWindows.of(Duration.ofMinutes(1)))
                .aggregate(new Sums(), new Written())
                .sinkTo(sink);
        env.execute("orders");
    }

    private static boolean forever(String[] args) {
        return args.length > 5 && args[5].equals("forever");
    }

    private static void sql(String[] args) throws Exception {
        StreamTableEnvironment tables =
                StreamTableEnvironment.create(StreamExecutionEnvironment.createLocalEnvironment(new Configuration()).setParallelism(1));
        tables.getConfig().set("table.local-time-zone", "UTC");
        String kafka = "'connector' = 'kafka', 'format' = 'json', 'properties.bootstrap.servers' = '" + args[0] + "', ";
        long seconds = Long.parseLong(args[3]) / 1000;
        String bounded = forever(args) ? "" : "'scan.bounded.mode' = 'latest-offset', ";
        tables.executeSql("CREATE TABLE orders (shop STRING, `at` BIGINT, cents BIGINT, t AS TO_TIMESTAMP_LTZ(`at`, 3), "
                + "WATERMARK FOR t AS t - INTERVAL '" + seconds + "' SECOND) WITH (" + kafka + "'topic' = '" + args[1] + "', "
                + "'properties.group.id' = '" + args[2] + "-group', 'scan.startup.mode' = 'earliest-offset', "
                + bounded + "'scan.watermark.emit.strategy' = 'on-event')");
        tables.executeSql("CREATE TABLE sales (shop STRING, window_start TIMESTAMP(3), orders BIGINT, cents BIGINT) WITH ("
                + kafka + "'topic' = '" + args[2] + "')");
        tables.executeSql("INSERT INTO sales SELECT shop, window_start, COUNT(*), SUM(cents) FROM TABLE(TUMBLE(TABLE orders, "
                        + "DESCRIPTOR(t), INTERVAL '1' MINUTE)) GROUP BY shop, window_start, window_end")
                .await();
    }

    public static void main(String[] args) throws Exception {
        long latenessMs = Long.parseLong(args[3]);
        System.out.println("READY");
        switch (args[4]) {
            case "datastream" -> datastream(args, context(latenessMs));
            case "default" -> datastream(args, WatermarkStrategy.forBoundedOutOfOrderness(Duration.ofMillis(latenessMs)));
            case "sql" -> sql(args);
            default -> throw new IllegalArgumentException("unknown: " + args[4]);
        }
        System.exit(0);
    }

    private static WatermarkStrategy<Tuple3<String, Long, Long>> context(long latenessMs) {
        return WatermarkStrategy.forGenerator(made -> new PerEvent(latenessMs));
    }
}
