import java.io.File;
import org.apache.avro.file.DataFileReader;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;

/** Prints the records of Avro files, one JSON object a line; after each file its codec. */
public class PrintAvro {
    public static void main(String[] paths) throws Exception {
        for (String path : paths) {
            try (var reader = new DataFileReader<GenericRecord>(new File(path), new GenericDatumReader<>())) {
                for (GenericRecord row : reader) {
                    System.out.println(row);
                }
                System.out.println("codec " + reader.getMetaString("avro.codec"));
            }
        }
    }
}
