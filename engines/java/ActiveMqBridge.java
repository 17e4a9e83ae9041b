import jakarta.jms.BytesMessage;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.util.ByteSequence;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Messages of an ActiveMQ queue into a topic, in the order of the queue; a message that comes a second time says so.
 *
 * <p>Arguments: address of ActiveMQ, queue, bootstrap servers, topic, seconds between two acknowledgements. Each message
 * is a JSON object; its record has two fields before those of the message: {@code message_id} (JMSMessageID) and
 * {@code redelivered} (JMSRedelivered). A body that is no object is passed on as it is.
 *
 * <p>A queue forgets a message once it is acknowledged, which is after Kafka has it: what was sent and not acknowledged
 * when the bridge or the server died comes again, first and in order. The bridge ends when the server does; whoever
 * keeps it running starts it again.
 */
public final class ActiveMqBridge {
    /** Messages that are in Kafka and not acknowledged, at most. */
    private static final int MOST = 500;

    /**
     * Messages that the server sends ahead. It reads its store by pages of 200, and the next page when it hears that
     * half of these have arrived: with ActiveMQ's own 1,000 it would hear that too late, and pause for up to 30 seconds.
     */
    private static final int AHEAD = 100;

    private static KafkaProducer<byte[], byte[]> producer(String servers) {
        Properties kafka = new Properties();
        kafka.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        kafka.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class.getName());
        kafka.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class.getName());
        return new KafkaProducer<>(kafka);
    }

    /** One consumer of the queue, whose connection ends the program when it breaks. */
    private static MessageConsumer consumer(String address, String queue) throws JMSException {
        ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(address);
        factory.getPrefetchPolicy().setQueuePrefetch(AHEAD);
        ActiveMQConnection connection = (ActiveMQConnection) factory.createConnection();
        connection.setExceptionListener(error -> {
            System.err.println("ActiveMQ is gone: " + error.getMessage());
            System.exit(1);
        });
        connection.start();
        Session session = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
        return session.createConsumer(session.createQueue(queue));
    }

    private static byte[] body(Message message) throws JMSException {
        if (message instanceof TextMessage text) {
            return text.getText() == null ? new byte[0] : text.getText().getBytes(StandardCharsets.UTF_8);
        }
        if (message instanceof BytesMessage bytes) {
            byte[] all = new byte[(int) bytes.getBodyLength()];
            bytes.readBytes(all);
            return all;
        }
        // A map, an object or a stream: no JSON, so its bytes as ActiveMQ sends them.
        ByteSequence sent = ((ActiveMQMessage) message).getContent();
        return sent == null ? new byte[0] : Arrays.copyOfRange(sent.data, sent.offset, sent.offset + sent.length);
    }

    private static boolean blank(byte one) {
        return one == ' ' || one == '\t' || one == '\n' || one == '\r';
    }

    private static String quoted(String text) {
        StringBuilder all = new StringBuilder("\"");
        for (char one : text.toCharArray()) {
            if (one < ' ') {
                all.append(String.format("\\u%04x", (int) one));
            } else {
                all.append(one == '"' || one == '\\' ? "\\" : "").append(one);
            }
        }
        return all.append('"').toString();
    }

    /** The message with what the queue says of it; not parsed, so that no number changes. */
    private static byte[] record(Message message) throws JMSException {
        byte[] body = body(message);
        int from = 0;
        int to = body.length;
        while (from < to && blank(body[from])) {
            from++;
        }
        while (to > from && blank(body[to - 1])) {
            to--;
        }
        if (to - from < 2 || body[from] != '{' || body[to - 1] != '}') {
            return body;
        }
        do {
            from++;
        } while (blank(body[from]));
        String told = "{\"message_id\": " + quoted(message.getJMSMessageID())
                + ", \"redelivered\": " + message.getJMSRedelivered() + (from == to - 1 ? "" : ", ");
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        all.writeBytes(told.getBytes(StandardCharsets.UTF_8));
        all.write(body, from, to - from);
        return all.toByteArray();
    }

    public static void main(String[] args) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(args[2]);
        MessageConsumer consumer = consumer(args[0], args[1]);
        // One key: the order of the queue is that of one partition.
        byte[] key = args[1].getBytes(StandardCharsets.UTF_8);
        long everyNs = (long) (Double.parseDouble(args[4]) * 1e9);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        long acknowledged = System.nanoTime();
        Message last = null;
        while (true) {
            Message message = consumer.receive(100);
            if (message != null) {
                sent.add(producer.send(new ProducerRecord<>(args[3], key, record(message))));
                last = message;
            }
            if (last != null && (sent.size() >= MOST || System.nanoTime() - acknowledged >= everyNs)) {
                producer.flush();
                for (Future<RecordMetadata> each : sent) {
                    each.get();
                }
                // Acknowledges all that this session has received.
                last.acknowledge();
                sent.clear();
                last = null;
                acknowledged = System.nanoTime();
            }
        }
    }
}
