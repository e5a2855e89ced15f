import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.Security;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashSet;
import java.util.Set;
import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.ASN1Encoding;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.ASN1OctetString;
import org.bouncycastle.asn1.ASN1Sequence;
import org.bouncycastle.asn1.ASN1Set;
import org.bouncycastle.asn1.ASN1TaggedObject;
import org.bouncycastle.asn1.cms.Attribute;
import org.bouncycastle.asn1.cms.SignedData;
import org.bouncycastle.asn1.cms.SignerInfo;
import org.bouncycastle.asn1.ocsp.OCSPResponse;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.ocsp.BasicOCSPResp;
import org.bouncycastle.cert.ocsp.OCSPResp;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.tsp.TimeStampToken;

/**
 * Long-term signatures read by BouncyCastle, with the imprints of ETSI EN 319 122-1
 * computed from its own structures. Arguments in pairs: signature file, document.
 * One line each: "good", then the numbers of signers, signature-time-stamps, archive
 * time-stamps, lists and OCSP responses; or "bad" and why.
 */
public class VerifyLevels {
    static final ASN1ObjectIdentifier ARCHIVE = new ASN1ObjectIdentifier("0.4.0.1733.2.4");
    static final ASN1ObjectIdentifier INDEX = new ASN1ObjectIdentifier("0.4.0.19122.1.5");

    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        for (int i = 0; i + 1 < args.length; i += 2) {
            try {
                System.out.println("good " + check(Files.readAllBytes(Path.of(args[i])), Files.readAllBytes(Path.of(args[i + 1]))));
            } catch (Exception e) {
                System.out.println("bad " + e);
            }
        }
    }

    static String check(byte[] signature, byte[] document) throws Exception {
        CMSSignedData cms = new CMSSignedData(new CMSProcessableByteArray(document), signature);
        SignedData data = SignedData.getInstance(cms.toASN1Structure().getContent());
        int stamps = 0, archives = 0, lists = 0, answers = 0;
        for (SignerInformation signer : cms.getSignerInfos().getSigners()) {
            @SuppressWarnings("unchecked")
            Collection<X509CertificateHolder> found = cms.getCertificates().getMatches(signer.getSID());
            if (!signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(found.iterator().next()))) {
                throw new Exception("signature");
            }
            if (signer.getUnsignedAttributes() == null) {
                continue;
            }
            for (ASN1Encodable e : signer.getUnsignedAttributes().toASN1EncodableVector().size() == 0 ? new ASN1Encodable[0]
                    : signer.getUnsignedAttributes().toASN1Structure().getAttributes()) {
                Attribute a = Attribute.getInstance(e);
                for (ASN1Encodable value : a.getAttributeValues()) {
                    if (a.getAttrType().equals(PKCSObjectIdentifiers.id_aa_signatureTimeStampToken)) {
                        TimeStampToken token = new TimeStampToken(new CMSSignedData(value.toASN1Primitive().getEncoded()));
                        imprint(token, cms, signer.getSignature());
                        stamps++;
                    } else if (a.getAttrType().equals(ARCHIVE)) {
                        archive(new TimeStampToken(new CMSSignedData(value.toASN1Primitive().getEncoded())), cms, data, signer, document);
                        archives++;
                    }
                }
            }
        }
        if (data.getCRLs() != null) {
            for (ASN1Encodable e : data.getCRLs()) {
                if (e.toASN1Primitive() instanceof ASN1TaggedObject) {
                    ASN1Sequence other = ASN1Sequence.getInstance((ASN1TaggedObject) e.toASN1Primitive(), false);
                    OCSPResp response = new OCSPResp(OCSPResponse.getInstance(other.getObjectAt(1)));
                    if (response.getStatus() == 0 && ((BasicOCSPResp) response.getResponseObject()).getResponses().length > 0) {
                        answers++;
                    }
                } else {
                    lists++;
                }
            }
        }
        return cms.getSignerInfos().size() + " " + stamps + " " + archives + " " + lists + " " + answers;
    }

    static void imprint(TimeStampToken token, CMSSignedData cms, byte[] data) throws Exception {
        byte[] digest = hash(token).digest(data);
        if (!Arrays.equals(digest, token.getTimeStampInfo().getMessageImprintDigest())) {
            throw new Exception("imprint");
        }
        @SuppressWarnings("unchecked")
        Collection<X509CertificateHolder> inside = token.getCertificates().getMatches(token.getSID());
        token.validate(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(inside.iterator().next()));
    }

    static MessageDigest hash(TimeStampToken token) throws Exception {
        return MessageDigest.getInstance(token.getTimeStampInfo().getMessageImprintAlgOID().getId(), "BC");
    }

    static void archive(TimeStampToken token, CMSSignedData cms, SignedData data, SignerInformation signer, byte[] document) throws Exception {
        ASN1Sequence index = ASN1Sequence.getInstance(token.getUnsignedAttributes().get(INDEX).getAttributeValues()[0]);
        MessageDigest own = MessageDigest.getInstance(AlgorithmIdentifier.getInstance(index.getObjectAt(0)).getAlgorithm().getId(), "BC");
        contained(index.getObjectAt(1), hashes(data.getCertificates(), own), "certificates");
        contained(index.getObjectAt(2), hashes(data.getCRLs(), own), "revocations");
        Set<String> values = new HashSet<>();
        for (ASN1Encodable e : signer.getUnsignedAttributes().toASN1Structure().getAttributes()) {
            Attribute a = Attribute.getInstance(e);
            for (ASN1Encodable value : a.getAttributeValues()) {
                own.update(a.getAttrType().getEncoded(ASN1Encoding.DER));
                values.add(text(own.digest(value.toASN1Primitive().getEncoded(ASN1Encoding.DER))));
            }
        }
        contained(index.getObjectAt(3), values, "attributes");
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(data.getEncapContentInfo().getContentType().getEncoded(ASN1Encoding.DER));
        out.write(hash(token).digest(document));
        SignerInfo info = signer.toASN1Structure();
        ASN1Sequence fields = ASN1Sequence.getInstance(info.toASN1Primitive());
        for (int i = 0; i < 6; i++) { // version, sid, digestAlgorithm, signedAttrs, signatureAlgorithm, signature
            out.write(fields.getObjectAt(i).toASN1Primitive().getEncoded(ASN1Encoding.DER));
        }
        out.write(index.getEncoded(ASN1Encoding.DER));
        imprint(token, cms, out.toByteArray());
    }

    static Set<String> hashes(ASN1Set set, MessageDigest own) throws Exception {
        Set<String> out = new HashSet<>();
        if (set != null) {
            for (ASN1Encodable e : set) {
                out.add(text(own.digest(e.toASN1Primitive().getEncoded(ASN1Encoding.DER))));
            }
        }
        return out;
    }

    static void contained(ASN1Encodable list, Set<String> have, String what) throws Exception {
        for (ASN1Encodable e : ASN1Sequence.getInstance(list)) {
            if (!have.contains(text(ASN1OctetString.getInstance(e).getOctets()))) {
                throw new Exception("the index names " + what + " that are not there");
            }
        }
    }

    static String text(byte[] b) {
        return Arrays.toString(b);
    }
}
