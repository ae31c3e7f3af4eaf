import java.io.File;
import org.apache.avro.data.TimeConversions;
import org.apache.avro.file.DataFileReader;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;

/** Prints fields of an Avro file, named after its path, as Java's dates and instants; moments to the microsecond. */
public class PrintDates {
    public static void main(String[] arguments) throws Exception {
        var data = new GenericData();
        data.addLogicalTypeConversion(new TimeConversions.DateConversion());
        data.addLogicalTypeConversion(new TimeConversions.TimestampMicrosConversion());
        data.addLogicalTypeConversion(new TimeConversions.TimestampMillisConversion());
        var reading = new GenericDatumReader<GenericRecord>(null, null, data);
        try (var reader = new DataFileReader<GenericRecord>(new File(arguments[0]), reading)) {
            for (GenericRecord row : reader) {
                for (int field = 1; field < arguments.length; field++) {
                    System.out.println(row.get(arguments[field]));
                }
            }
        }
    }
}
