import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Changes of one table of PostgreSQL or MariaDB into a topic, as Debezium tells them, until it is stopped.
 *
 * <p>Arguments: {@code postgresql} or {@code mariadb}, bootstrap servers, topic, port of the database on this machine,
 * user, database, table with its schema (of MariaDB: with its database), file of its place in the log; what MariaDB's
 * tables looked like in the past is kept beside that. The password is in the variable DATABASE_PASSWORD. What was sent
 * and not noted yet is sent again after a crash: at least once, in the order of each key.
 */
public final class DebeziumChanges {
    private static Properties settings(String[] args) {
        Properties all = new Properties();
        all.put("name", "changes");
        all.put("topic.prefix", "shop");
        all.put("database.hostname", "127.0.0.1");
        all.put("database.port", args[3]);
        all.put("database.user", args[4]);
        all.put("database.password", System.getenv("DATABASE_PASSWORD"));
        all.put("table.include.list", args[6]);
        all.put("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore");
        all.put("offset.storage.file.filename", args[7]);
        all.put("offset.flush.interval.ms", "500");
        all.put("decimal.handling.mode", "string");
        all.put("time.precision.mode", "connect");
        all.put("converter.schemas.enable", "false");
        switch (args[0]) {
            case "postgresql" -> {
                all.put("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
                all.put("plugin.name", "pgoutput");
                all.put("publication.autocreate.mode", "filtered");
                all.put("database.dbname", args[5]);
            }
            case "mariadb" -> {
                all.put("connector.class", "io.debezium.connector.mariadb.MariaDbConnector");
                all.put("database.server.id", "4711");
                all.put("database.include.list", args[5]);
                all.put("schema.history.internal", "io.debezium.storage.file.history.FileSchemaHistory");
                all.put("schema.history.internal.file.filename", args[7] + ".history");
                // Else it also tells of each statement that changes a table, with the name of no table.
                all.put("include.schema.changes", "false");
            }
            default -> throw new IllegalArgumentException("unknown: " + args[0]);
        }
        return all;
    }

    private static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    public static void main(String[] args) throws Exception {
        Properties kafka = new Properties();
        kafka.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, args[1]);
        kafka.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class.getName());
        kafka.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class.getName());
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(kafka);
        DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(Json.class)
                .using(settings(args))
                .using((success, message, error) -> {
                    if (!success) {
                        System.err.println(message);
                        System.exit(1);
                    }
                })
                .notifying((changes, committer) -> {
                    List<Future<RecordMetadata>> sent = new ArrayList<>();
                    for (ChangeEvent<String, String> change : changes) {
                        sent.add(producer.send(new ProducerRecord<>(args[2], bytes(change.key()), bytes(change.value()))));
                    }
                    for (int place = 0; place < sent.size(); place++) {
                        try {
                            sent.get(place).get();
                        } catch (java.util.concurrent.ExecutionException error) {
                            throw new IllegalStateException(error);
                        }
                        committer.markProcessed(changes.get(place));
                    }
                    committer.markBatchFinished();
                })
                .build();
        ExecutorService runner = Executors.newSingleThreadExecutor();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                engine.close();
                runner.shutdown();
                runner.awaitTermination(20, TimeUnit.SECONDS);
            } catch (Exception error) {
                System.err.println(error.getMessage());
            }
        }));
        runner.execute(engine);
    }
}
