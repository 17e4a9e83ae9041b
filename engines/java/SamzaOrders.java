import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.samza.application.TaskApplication;
import org.apache.samza.application.descriptors.TaskApplicationDescriptor;
import org.apache.samza.config.MapConfig;
import org.apache.samza.operators.KV;
import org.apache.samza.runtime.LocalApplicationRunner;
import org.apache.samza.serializers.KVSerde;
import org.apache.samza.serializers.StringSerde;
import org.apache.samza.system.IncomingMessageEnvelope;
import org.apache.samza.system.OutgoingMessageEnvelope;
import org.apache.samza.system.SystemStream;
import org.apache.samza.system.SystemStreamMetadata.OffsetType;
import org.apache.samza.system.kafka.descriptors.KafkaSystemDescriptor;
import org.apache.samza.task.MessageCollector;
import org.apache.samza.task.StreamTask;
import org.apache.samza.task.StreamTaskFactory;
import org.apache.samza.task.TaskCoordinator;
import org.apache.samza.task.WindowableTask;

/**
 * Orders and cents per shop and minute so far in Samza, whose own windows are of the time on the wall: a task adds up by
 * the minute of the event, and hands on what has changed every second. No order is ever late.
 *
 * <p>Arguments: bootstrap servers, topic, topic for results; seconds without a record after which it ends, 8 where nothing
 * is said.
 */
public final class SamzaOrders implements TaskApplication {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long WINDOW_MS = 60_000;
    private final String[] args;

    private SamzaOrders(String[] args) {
        this.args = args;
    }

    @Override
    public void describe(TaskApplicationDescriptor app) {
        KafkaSystemDescriptor kafka = new KafkaSystemDescriptor("kafka")
                .withProducerBootstrapServers(java.util.List.of(args[0]))
                .withDefaultStreamOffsetDefault(OffsetType.OLDEST);
        KVSerde<String, String> texts = KVSerde.of(new StringSerde(), new StringSerde());
        app.withInputStream(kafka.getInputDescriptor(args[1], texts));
        app.withOutputStream(kafka.getOutputDescriptor(args[2], texts));
        app.withTaskFactory((StreamTaskFactory) () -> new Sums(args[2], args.length > 3 ? Integer.parseInt(args[3]) : 8));
    }

    /** What one partition has counted; a shop's orders are in one partition. */
    private static final class Sums implements StreamTask, WindowableTask {
        private final SystemStream out;
        private final Map<String, long[]> kept = new HashMap<>();
        private final Map<String, Long> changed = new LinkedHashMap<>();
        private final int mostIdle;
        private int idle;

        Sums(String topic, int mostIdle) {
            this.mostIdle = mostIdle;
            out = new SystemStream("kafka", topic);
        }

        @Override
        public void process(IncomingMessageEnvelope each, MessageCollector collector, TaskCoordinator coordinator)
                throws IOException {
            JsonNode order = JSON.readTree((String) each.getMessage());
            long at = order.get("at").asLong();
            long start = at - at % WINDOW_MS;
            String row = each.getKey() + "\", \"window_start\": " + start;
            long[] sums = kept.computeIfAbsent(row, ignored -> new long[2]);
            sums[0]++;
            sums[1] += order.get("cents").asLong();
            changed.put(row, start);
            idle = 0;
        }

        @Override
        public void window(MessageCollector collector, TaskCoordinator coordinator) {
            for (String row : changed.keySet()) {
                long[] sums = kept.get(row);
                String shop = row.substring(0, row.indexOf('"'));
                String value = "{\"shop\": \"" + row + ", \"orders\": " + sums[0] + ", \"cents\": " + sums[1] + "}";
                collector.send(new OutgoingMessageEnvelope(out, shop, value));
            }
            changed.clear();
            if (++idle == mostIdle) {
                coordinator.shutdown(TaskCoordinator.RequestScope.CURRENT_TASK);
            }
        }
    }

    public static void main(String[] args) {
        Map<String, String> settings = new HashMap<>();
        settings.put("job.name", args[2]);
        settings.put("processor.id", "0");
        settings.put("job.coordinator.factory", "org.apache.samza.standalone.PassthroughJobCoordinatorFactory");
        settings.put("task.name.grouper.factory", "org.apache.samza.container.grouper.task.SingleContainerGrouperFactory");
        settings.put("task.window.ms", "1000");
        settings.put("job.default.system", "kafka");
        LocalApplicationRunner runner = new LocalApplicationRunner(new SamzaOrders(args), new MapConfig(settings));
        System.out.println("READY");
        runner.run();
        runner.waitForFinish();
        System.exit(0);
    }
}
